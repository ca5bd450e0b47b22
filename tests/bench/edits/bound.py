"""What a history costs at least: text never seen before, in chunks of a given mean size.

Before: `history.py`. After: `measure.py` sets the ways of indexing against it.

Two bounds. *By runs*: in each revision, each run of neighbouring paragraphs never seen before costs its length over
the mean chunk size, rounded up. *By bytes*: in each revision, the bytes of all such paragraphs together over the mean
chunk size, rounded up once. They hold for whoever cuts between paragraphs only. Below the first comes a chunk that
carries two short runs with an old paragraph between them; below both, a way that cuts long paragraphs (lists, tables)
and embeds only the piece that changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_BLANK = re.compile(r"\n[^\S\n]*\n\s*")


@dataclass
class NeverSeen:
    """Paragraphs of a history as it goes by; what was seen anywhere before, in any document, costs nothing."""

    _seen: set[str] = field(default_factory=set)

    def runs(self, text: str) -> list[str]:
        """Each maximal run of new paragraphs in this revision, as it stands there; they are old from now on."""
        found: list[str] = []
        first = end = 0
        for start, stop in _paragraphs(text):
            paragraph = text[start:stop]
            if paragraph in self._seen:
                if end:
                    found.append(text[first:end])
                end = 0
                continue
            self._seen.add(paragraph)
            if not end:
                first = start
            end = stop
        if end:
            found.append(text[first:end])
        return found


def chunks_by_runs(sizes: Iterable[int], mean: float) -> int:
    """Chunks if every run is cut by itself. sizes and mean in bytes."""
    return sum(_rounded_up(size, mean) for size in sizes)


def chunks_by_bytes(sizes: Iterable[int], mean: float) -> int:
    """Chunks if all that is new in a revision could be packed together."""
    return _rounded_up(sum(sizes), mean)


def utf8(text: str) -> int:
    """Bytes of a text."""
    return len(text.encode("utf-8", "surrogatepass"))


def _rounded_up(size: int, mean: float) -> int:
    return int(-(-size // mean))


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """[start, end) of the stretches between blank lines, white space at their ends left out."""
    at = 0
    for gap in [*_BLANK.finditer(text), None]:
        start, end = at, gap.start() if gap else len(text)
        at = gap.end() if gap else end
        stretch = text[start:end]
        if inner := stretch.strip():
            start += stretch.index(inner)
            yield start, start + len(inner)
