"""Blocks to chunks: deterministic, local, structure first.

A text is a row of atoms (blocks, or their sentences, lines, words where a block is too long) with a gap before each.
A range of atoms that fits is one chunk; one that does not is cut at its strongest gap, and each side is treated
likewise. A gap's strength is its place in the structure (a heading's beats a paragraph's beats a sentence's), and
among equals a hash of the atom that follows it. So boundaries depend on nearby content and not on the distance from
the start: an edit changes the chunks it touches, and a paragraph put on top moves no other boundary. (The tree that
the cuts form is a treap: its shape is a function of the content alone. Seidel and Aragon, "Randomized search
trees", 1996.)

Before this: `structure.py`. After this: `identity.py` names the chunks.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.records import Block
from streams.core.structure import blocks_of


@dataclass(frozen=True)
class ChunkingParameters:
    """Sizes in bytes of UTF-8, so that scripts with many tokens to a character get shorter chunks.

    most: no chunk is larger. least: no cut leaves less on either side, where another cut is possible. 900 bytes are
    about 200 tokens of English; the mean chunk then has about 125, which is what the local model was trained for.
    """

    most: int = 900
    least: int = 200

    @property
    def fingerprint(self) -> str:
        """Part of a generation's name: other parameters or another algorithm give other chunks."""
        return f"treap1-{self.most}-{self.least}"


@dataclass(frozen=True)
class Chunk:
    """A stretch [start, end) of a text without white space at its ends, the headings above it, and its page."""

    start: int
    end: int
    heading: tuple[str, ...] = ()
    page: int | None = None


# Strength of a gap, strongest first; a heading's is its level, 1 to 6.
_PARAGRAPH, _ITEM, _LINE, _SENTENCE, _UNDER_HEADING, _WORD, _ANYWHERE = 10, 20, 25, 30, 35, 40, 50

_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\"'”’)\]]*\s+|\n+")
_LINE_END = re.compile(r"\n+")
_WHITE = re.compile(r"\s+")


@dataclass(frozen=True)
class _Atom:
    start: int
    end: int
    rank: int  # strength of the gap before it
    priority: int  # among equal ranks the smallest wins


def chunk(
    text: str,
    *,
    content_type: str = "text/plain",
    blocks: Sequence[Block] | None = None,
    parameters: ChunkingParameters | None = None,
) -> list[Chunk]:
    """The chunks of a text, in order; they do not overlap, and all that lies outside them is white space.

    blocks, where the parser gave them, say more than the text; they must be ordered and must not overlap.
    """
    parameters = parameters or ChunkingParameters()
    structure = list(blocks) if blocks else blocks_of(text, content_type)
    atoms = list(_atoms(text, structure, parameters))
    if not atoms:
        return []
    sizes = _Sizes(text, atoms)
    ranges = _cut(atoms, sizes, parameters)
    headings = _Headings(text, structure)
    found = []
    for low, high in ranges:
        start, end = atoms[low].start, atoms[high - 1].end
        path, page = headings.at(start, end)
        found.append(Chunk(start, end, path, page))
    return found


class _Sizes:
    """Bytes of UTF-8 between atoms, by prefix sums."""

    def __init__(self, text: str, atoms: Sequence[_Atom]) -> None:
        self._ascii = text.isascii()
        self._atoms = atoms
        self._starts: list[int] = []
        self._ends: list[int] = []
        if not self._ascii:
            at, size = 0, 0
            for atom in atoms:
                size += len(text[at : atom.start].encode("utf-8", "surrogatepass"))
                self._starts.append(size)
                size += len(text[atom.start : atom.end].encode("utf-8", "surrogatepass"))
                self._ends.append(size)
                at = atom.end

    def between(self, low: int, high: int) -> int:
        """Bytes from the start of atom low to the end of atom high-1."""
        if self._ascii:
            return self._atoms[high - 1].end - self._atoms[low].start
        return self._ends[high - 1] - self._starts[low]


def _cut(atoms: Sequence[_Atom], sizes: _Sizes, parameters: ChunkingParameters) -> list[tuple[int, int]]:
    """Ranges of atoms, in order. Iterative, for a range of equal ranks may be cut many times."""
    done: list[tuple[int, int]] = []
    todo = [(0, len(atoms))]
    while todo:
        low, high = todo.pop()
        if high - low == 1 or sizes.between(low, high) <= parameters.most:
            done.append((low, high))
            continue
        best = fallback = low + 1
        best_key: tuple[int, int, int] | None = None
        fallback_key: tuple[int, int, int] | None = None
        middle = (low + high) // 2
        for gap in range(low + 1, high):
            # Equal atoms have equal priorities: the one nearest the middle keeps the tree shallow.
            key = (atoms[gap].rank, atoms[gap].priority, abs(gap - middle))
            if fallback_key is None or key < fallback_key:
                fallback, fallback_key = gap, key
            if (
                (best_key is None or key < best_key)
                and sizes.between(low, gap) >= parameters.least
                and sizes.between(gap, high) >= parameters.least
            ):
                best, best_key = gap, key
        cut = best if best_key is not None else fallback
        todo.append((cut, high))
        todo.append((low, cut))
    return done


def _atoms(text: str, blocks: Sequence[Block], parameters: ChunkingParameters) -> Iterator[_Atom]:
    previous: Block | None = None
    for block in blocks:
        start, end = _trim(text, block.start, block.end)
        if start == end:
            continue
        if block.kind == "heading":
            rank = min(max(block.level, 1), 6)
            if previous is not None and previous.kind == "heading" and previous.level < block.level:
                rank = _UNDER_HEADING  # a heading straight under its parent stays with it
        elif previous is not None and previous.kind == "heading":
            rank = _UNDER_HEADING
        elif block.kind == "list_item" and previous is not None and previous.kind == "list_item":
            rank = _ITEM
        else:
            rank = _PARAGRAPH
        yield from _split(text, start, end, rank, kind=block.kind, parameters=parameters)
        previous = block


def _split(text: str, start: int, end: int, rank: int, *, kind: str, parameters: ChunkingParameters) -> Iterator[_Atom]:
    """One atom, or the block's lines or sentences, then words, then pieces, as far down as its length asks for."""
    # A paragraph gives way a little before the limit, so that a heading above it still fits beside its first sentences.
    whole = parameters.most if kind in ("code", "table", "heading") else parameters.most * 2 // 3
    if _bytes(text, start, end) <= whole:
        yield _atom(text, start, end, rank)
        return
    pattern, inner = (_LINE_END, _LINE) if kind in ("code", "table") else (_SENTENCE_END, _SENTENCE)
    for low, high in _pieces(text, start, end, pattern):
        if _bytes(text, low, high) <= parameters.most // 2:
            yield _atom(text, low, high, rank)
        else:
            yield from _split_words(text, low, high, rank, parameters)
        rank = inner


def _split_words(text: str, start: int, end: int, rank: int, parameters: ChunkingParameters) -> Iterator[_Atom]:
    for low, high in _pieces(text, start, end, _WHITE):
        if _bytes(text, low, high) <= parameters.most // 4:
            yield _atom(text, low, high, rank)
        else:
            for piece_low, piece_high in _content_defined(text, low, high, parameters.most // 4):
                yield _atom(text, piece_low, piece_high, rank)
                rank = _ANYWHERE
        rank = _WORD


def _content_defined(text: str, start: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """Pieces of a text without any gap (a base64 blob), cut where a checksum of the last characters says so."""
    low, size = start, 0
    for at in range(start, end):
        size += len(text[at].encode("utf-8", "surrogatepass"))
        window = text[max(start, at - 7) : at + 1].encode("utf-8", "surrogatepass")
        if size + 4 > most or (size >= 16 and zlib.crc32(window) % 32 == 0):
            yield low, at + 1
            low, size = at + 1, 0
    if low < end:
        yield low, end


def _pieces(text: str, start: int, end: int, gap: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    low = start
    for match in gap.finditer(text, start, end):
        if match.start() > low:
            # What closes a sentence (a quotation mark) belongs to it; the white space after it to nobody.
            yield _trim(text, low, match.end())
            low = match.end()
    if low < end:
        yield _trim(text, low, end)


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _bytes(text: str, start: int, end: int) -> int:
    return len(text[start:end].encode("utf-8", "surrogatepass"))


def _atom(text: str, start: int, end: int, rank: int) -> _Atom:
    digest = hashlib.blake2b(text[start:end].encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return _Atom(start, end, rank, int.from_bytes(digest, "big"))


class _Headings:
    """The headings above a place, and its page. Asked in ascending order."""

    def __init__(self, text: str, blocks: Sequence[Block]) -> None:
        self._text = text
        self._blocks = blocks
        self._next = 0
        self._stack: list[tuple[int, str]] = []
        self._page: int | None = None

    def at(self, start: int, end: int) -> tuple[tuple[str, ...], int | None]:
        """The path of a chunk: headings above its start, and those it begins with."""
        page = None
        while self._next < len(self._blocks) and self._blocks[self._next].start <= start:
            self._take(self._blocks[self._next])
        page = self._page
        while self._next < len(self._blocks) and self._blocks[self._next].kind == "heading":
            if self._blocks[self._next].start >= end:
                break
            self._take(self._blocks[self._next])
        return tuple(title for _, title in self._stack), page

    def _take(self, block: Block) -> None:
        self._next += 1
        self._page = block.page
        if block.kind == "heading":
            title = _WHITE.sub(" ", self._text[block.start : block.end].strip("#=- \n\t"))[:200]
            while self._stack and self._stack[-1][0] >= block.level:
                self._stack.pop()
            self._stack.append((block.level, title))
