"""The first law of chunks, for whoever draws the texts: properties and the fuzzer."""

from __future__ import annotations

from collections.abc import Iterable

from streams.core.chunking import Chunk


def assert_tiles(text: str, chunks: Iterable[Chunk], most: int) -> None:
    """In order, without overlap, none larger than `most` bytes; what lies outside every chunk is white space."""
    at = 0
    for piece in chunks:
        assert at <= piece.start < piece.end <= len(text)
        assert not text[at : piece.start].strip()
        body = text[piece.start : piece.end]
        assert body == body.strip()
        assert len(body.encode("utf-8", "surrogatepass")) <= most
        at = piece.end
    assert not text[at:].strip()
