"""Which objects nobody will list any more: of a redelivered document all that is old, and never what may yet come."""

from __future__ import annotations

from schemas.index.manifest import Manifest
from schemas.records import Origin, Position
from streams.core.versions import StoredChunk, strays

DOCUMENT = "t/kb/a"


def at(offset: int, stream: str = "events/0") -> Position:
    return Position(stream, 1, offset, 0, offset)


def manifest(position: Position) -> Manifest:
    return Manifest(
        DOCUMENT, position, Origin("event", "s", "a", "events", 0, position.major), (), False, None, {}, None
    )


def chunk(position: Position) -> StoredChunk:
    return StoredChunk(f"chunk of {position.version}", DOCUMENT, position.version)


def found(*chunks: StoredChunk, again: bool = True, barriers: dict[str, Manifest] | None = None) -> list[StoredChunk]:
    return strays(chunks, {}, {DOCUMENT} if again else (), [manifest(at(5))], barriers or {})


def test_of_a_redelivered_document_what_is_older_than_its_newest_manifest_goes() -> None:
    """Its own version's objects and newer ones are let be: their manifest lists them, or is still to come."""
    assert found(chunk(at(4)), chunk(at(5)), chunk(at(6))) == [chunk(at(4))]


def test_of_a_document_that_comes_for_the_first_time_only_suspects_go() -> None:
    assert found(chunk(at(4)), again=False) == []
    assert strays([chunk(at(7))], {DOCUMENT: [at(7).version]}, (), [], {}) == [chunk(at(7))]


def test_streams_are_not_compared_by_their_numbers() -> None:
    """Between two streams time decides, and an object does not say when its version was made."""
    assert found(chunk(at(4, "uploads/0"))) == []


def test_a_barrier_ends_what_is_older_in_its_stream() -> None:
    barrier = manifest(at(9, "cdc/s"))

    assert found(chunk(at(8, "cdc/s")), chunk(at(10, "cdc/s")), barriers={"s": barrier}) == [chunk(at(8, "cdc/s"))]
