"""What is too long for one chunk, cut inside: between list items, lines or sentences, then words, then anywhere.

A stretch is a row of atoms with a gap before each, of a strength (a line's beats a sentence's beats a word's), and
among equals by a hash of the atom that follows. The strongest gap is cut first, then the next, as long as what it would
cut is too long. So the places depend on nearby content and not on the distance from the start. (The tree that the cuts
form is a treap: its shape is a function of the content alone. Seidel and Aragon, "Randomized search trees", 1996.)

Before this: `structure.py`. After this: `chunking.py` joins the pieces of short blocks, and takes these as they are.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])[」』”’）]*\s*")
_LINE = re.compile(r"\n+")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_WORD = re.compile(r"\s+")
_GAPS = {
    "list": (_LINE, _SENTENCE, _WORD),
    "code": (_BLANK_LINE, _LINE, _WORD),
    "table": (_LINE, _WORD),
}
_PROSE = (_SENTENCE, _LINE, _WORD)
_WINDOW = 8  # characters that decide where a text without any gap is cut


@dataclass(frozen=True)
class _Atom:
    start: int
    end: int
    strength: int  # of the gap before it; 0 is the strongest


@dataclass(frozen=True)
class _Limits:
    gaps: tuple[re.Pattern[str], ...]  # the strongest kind first
    atom: int  # bytes, at most
    grain: int  # characters below which neighbours may become one atom


def size_of(text: str, start: int, end: int) -> int:
    """Bytes of UTF-8."""
    return len(text[start:end].encode("utf-8", "surrogatepass"))


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Without the white space at either end."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def split(
    text: str, start: int, end: int, *, kind: str, most: int, starts: Sequence[int] = ()
) -> list[tuple[int, int]]:
    """Pieces of [start, end), in order, none above `most` bytes; `starts` are where a list's items begin.

    Where there is a choice, no piece is below a quarter of `most`. What lies between the pieces is white space.
    """
    limits = _Limits(_GAPS.get(kind, _PROSE), most // 2, most // 16)
    spans = _grains(text, zip(starts, [*starts[1:], end], strict=True), limits.grain) if starts else [(start, end)]
    atoms = [atom for low, high in spans for atom in _atoms(text, trim(text, low, high), 0, 0, limits)]
    return _cut(text, atoms, most)


def _atoms(text: str, span: tuple[int, int], depth: int, strength: int, limits: _Limits) -> Iterator[_Atom]:
    """What fits is one atom; else it is divided at the first kind of gap, and what is still too long at the next."""
    if span[1] - span[0] <= limits.atom and size_of(text, *span) <= limits.atom:
        yield _Atom(*span, strength)
    elif depth == len(limits.gaps):
        for low, high in _anywhere(text, *span, limits.atom):
            yield _Atom(low, high, strength)
            strength = depth + 1
    else:
        for part in _grains(text, _divided(text, *span, limits.gaps[depth]), limits.grain):
            yield from _atoms(text, part, depth + 1, strength, limits)
            strength = depth + 1


def _divided(text: str, start: int, end: int, gap: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    low = start
    for match in gap.finditer(text, start, end):
        if match.start() > low:
            # What closes a sentence (a quotation mark) belongs to it; the white space after it to nobody.
            yield trim(text, low, match.end())
            low = match.end()
    if low < end:
        yield trim(text, low, end)


def _grains(text: str, pieces: Iterable[tuple[int, int]], grain: int) -> Iterator[tuple[int, int]]:
    """Very short pieces taken together, up to a place that their content chooses: a long text has a million words."""
    first, last = -1, -1
    for low, high in pieces:
        # Twice a grain of any script is less than an atom may have, so no pieces are lost in one that is too long.
        if first >= 0 and high - first > 2 * grain:
            yield first, last
            first = -1
        if first < 0:
            first = low
        last = high
        if last - first >= grain or zlib.crc32(text[low:high][-_WINDOW:].encode("utf-8", "surrogatepass")) % 4 == 0:
            yield first, last
            first = -1
    if first >= 0:
        yield first, last


def _anywhere(text: str, start: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """Pieces of a text without any gap (a base64 blob), cut where a checksum of the last characters says so."""
    low = start
    while low < end:
        high = _reach(text, low, end, most)
        for at in range(_reach(text, low, end, most // 4), high):
            window = text[max(start, at - _WINDOW) : at].encode("utf-8", "surrogatepass")
            if zlib.crc32(window) % 32 == 0:
                high = at
                break
        yield low, high
        low = high


def _reach(text: str, low: int, end: int, most: int) -> int:
    """The end of the longest piece from `low` that has not more bytes, but at least one character."""
    piece = text[low : min(low + most, end)]
    if piece.isascii():
        return max(low + len(piece), low + 1)
    size = 0
    for at, character in enumerate(piece, start=low):
        size += len(character.encode("utf-8", "surrogatepass"))
        if size > most and at > low:
            return at
    return low + max(len(piece), 1)


def _cut(text: str, atoms: Sequence[_Atom], most: int) -> list[tuple[int, int]]:
    """Strongest gap first, where the piece that it lies in is too long and neither side would be very short."""
    if not atoms:
        return []
    before, after = _sizes(text, atoms)
    cuts = [0, len(atoms)]

    def between(low: int, high: int) -> int:
        return after[high - 1] - before[low]

    for least in (most // 4, 0):
        for gap in _by_strength(text, atoms):
            place = bisect_right(cuts, gap)
            low, high = cuts[place - 1], cuts[place]
            if low < gap and between(low, high) > most and min(between(low, gap), between(gap, high)) >= least:
                insort(cuts, gap)
    return [(atoms[low].start, atoms[high - 1].end) for low, high in pairwise(cuts)]


def _by_strength(text: str, atoms: Sequence[_Atom]) -> list[int]:
    """Gaps by the number of the atom after them, strongest first.

    Equal atoms (a word a million times) are told apart by their number among their like: in the order of the text they
    would be cut off one by one.
    """
    seen: dict[bytes, int] = {}
    keys: list[tuple[int, bytes, int]] = [(0, b"", 0)]
    for number, atom in enumerate(atoms[1:], start=1):
        body = text[atom.start : atom.end].encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(body, digest_size=8).digest()
        count = seen.get(digest, 0)
        seen[digest] = count + 1
        if count:
            digest = hashlib.blake2b(digest + count.to_bytes(8, "big"), digest_size=8).digest()
        keys.append((atom.strength, digest, number))
    return [number for _, _, number in sorted(keys[1:])]


def _sizes(text: str, atoms: Sequence[_Atom]) -> tuple[list[int], list[int]]:
    """Bytes of the text before each atom's start and before its end."""
    starts, ends, at, size = [], [], atoms[0].start, 0
    for atom in atoms:
        size += size_of(text, at, atom.start)
        starts.append(size)
        size += size_of(text, atom.start, atom.end)
        ends.append(size)
        at = atom.end
    return starts, ends
