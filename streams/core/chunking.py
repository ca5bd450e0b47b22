"""Blocks to chunks: deterministic, exactly local, structure first.

A block that fits stays whole; one that does not is cut inside (`splitting.py`). Then each gap between two blocks is
decided from these two alone (`joining.py`, where the law that follows is proved): a paragraph added anywhere makes at
most two new chunks and moves no other boundary.

Before this: `structure.py`. After this: `identity.py` names the chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.records import Block
from streams.core.joining import LAST_BODY, LIST, ChunkingParameters, level_of
from streams.core.splitting import size_of, split, trim
from streams.core.structure import blocks_of, title_of

__all__ = ["Chunk", "ChunkingParameters", "chunk"]

_WHITE = re.compile(r"\s+")


@dataclass(frozen=True)
class Chunk:
    """A stretch [start, end) of a text without white space at its ends, the headings above it, and its page."""

    start: int
    end: int
    heading: tuple[str, ...] = ()
    page: int | None = None


@dataclass(frozen=True)
class _Whole:
    """A block as it is joined or cut: list items that follow each other are one, and `items` are their starts."""

    kind: str
    start: int
    end: int
    rank: int = 0
    items: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Part:
    """What no boundary goes through. Its size counts from `front`: the indentation of a whole block is part of it."""

    front: int
    start: int
    end: int
    level: int


def chunk(
    text: str,
    *,
    content_type: str = "text/plain",
    blocks: Sequence[Block] | None = None,
    parameters: ChunkingParameters | None = None,
) -> list[Chunk]:
    """The chunks of a text, in order; they do not overlap, and all that lies outside them is white space.

    A function of the arguments alone. blocks, where the parser gave them, say more than the text; they must be ordered
    and must not overlap, and leave nothing but white space between them.
    """
    parameters = parameters or ChunkingParameters()
    structure = list(blocks) if blocks else blocks_of(text, content_type)
    headings = _Headings(text, structure)
    parts = (part for whole in _wholes(text, structure) for part in _parts(text, whole, parameters))
    return [Chunk(start, end, *headings.at(start, end)) for start, end in _joined(text, parts, parameters)]


def _wholes(text: str, blocks: Sequence[Block]) -> Iterator[_Whole]:
    items: list[int] = []
    end_of_items = 0
    for block in blocks:
        start, end = trim(text, block.start, block.end)
        if start == end:
            continue
        if block.kind == "list_item":
            items.append(start)
            end_of_items = end
            continue
        if items:
            yield _Whole("list", items[0], end_of_items, items=tuple(items))
            items = []
        yield _Whole(block.kind, start, end, block.level)
    if items:
        yield _Whole("list", items[0], end_of_items, items=tuple(items))


def _parts(text: str, whole: _Whole, parameters: ChunkingParameters) -> Iterator[_Part]:
    front = _line_start(text, whole.start, parameters.most)
    size = size_of(text, front, whole.end)
    most = parameters.whole(whole.kind)
    if size <= most:
        body = text[whole.start : whole.end]
        level = level_of(whole.kind, rank=whole.rank, text=body, size=size, parameters=parameters)
        yield _Part(front, whole.start, whole.end, level)
        return
    level = LIST if whole.kind == "list" else LAST_BODY
    for start, end in split(text, whole.start, whole.end, kind=whole.kind, most=most, starts=whole.items):
        yield _Part(start, start, end, level)


def _joined(text: str, parts: Iterator[_Part], parameters: ChunkingParameters) -> Iterator[tuple[int, int]]:
    first = before = next(parts, None)
    if first is None or before is None:
        return
    for after in parts:
        if before.level >= after.level or size_of(text, before.end, after.front) > parameters.gap:
            yield first.start, before.end
            first = after
        before = after
    yield first.start, before.end


def _line_start(text: str, start: int, most: int) -> int:
    """Where the white space that indents what starts here begins; not looked for beyond the longest chunk."""
    at = start
    while at > max(start - most, 0) and text[at - 1].isspace() and text[at - 1] not in "\r\n":
        at -= 1
    return at


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
            title = _WHITE.sub(" ", title_of(self._text[block.start : block.end]))[:200]
            while self._stack and self._stack[-1][0] >= block.level:
                self._stack.pop()
            self._stack.append((block.level, title))
