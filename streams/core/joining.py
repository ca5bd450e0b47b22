"""Which neighbouring blocks share a chunk: decided for each gap from the two blocks beside it, and from nothing else.

Every block has a level, a whole number found from the block alone. The block after a gap joins the chunk of the block
before it if its level is higher; else the chunk ends there. Three things follow, for any text.

An added block makes at most two new chunks and moves no other boundary. Only the gap that it is put into is decided
anew. If x and y were joined, x < y, then whatever the level of p, x < p or p < y: one of the two new gaps joins, so
the chunk of x and y becomes one or two. If they were not, y <= x, then p joins one of them at most: one new chunk.
Taking a block out, or putting another in its place, is the same sum.

Sizes are bounded. Levels rise within a chunk, so it holds one block of each level at most; each level admits blocks up
to a size of its own, and these sizes with the gaps between them come to `most`.

There is no other way. A rule that keeps this law must decide x|y alike in every text, hence from x and y alone; "not
joined" must be transitive, or an added block could make three; and no two blocks may each join the other, or x, y, x,
y... would be endless. Such a relation is an order by levels.

The price is small chunks, for half of the neighbours of like blocks do not rise. So levels go where they help: a
heading is below all that may follow it, an announcement ("as follows:") below the rest, and short blocks have the
choice of more low levels than long ones. A list is above all: whatever is put between its items, both halves keep
the level of the whole.

Before this: `structure.py`, `splitting.py`. After this: `chunking.py`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

_TITLES = (35, 35, 35)
_ANNOUNCEMENT = 85
_BODY = (40, 75, 125, 365)
_LIST = 205
_SHARES = (*_TITLES, _ANNOUNCEMENT, *_BODY, _LIST)
"""Thousandths of what a chunk can hold, for the one block of each level that may be in it."""

ANNOUNCEMENT = len(_TITLES)
FIRST_BODY = ANNOUNCEMENT + 1
LAST_BODY = ANNOUNCEMENT + len(_BODY)
LIST = LAST_BODY + 1

LEAST_MOST = 160
_OPENING = 24
"""Characters of a block that choose among the levels open to it: an edit further on seldom changes its level."""


@dataclass(frozen=True)
class ChunkingParameters:
    """Sizes in bytes of UTF-8, so that scripts with many tokens to a character get shorter chunks.

    most: no chunk is larger. Nearly all are much smaller, for it takes a block of each level at its largest: measured,
    with 1,700, the mean is about 230 and one in a hundred is above 700, and 900 bytes of English are about 200 tokens.
    """

    most: int = 1700

    def __post_init__(self) -> None:
        """Raises ValueError where the smallest share would hold less than a character."""
        if self.most < LEAST_MOST:
            raise ValueError(f"most is {self.most}, but chunks of less than {LEAST_MOST} bytes are not made")

    @property
    def fingerprint(self) -> str:
        """Part of a generation's name: other parameters or another algorithm give other chunks."""
        return f"levels1-{self.most}"

    @cached_property
    def gap(self) -> int:
        """Bytes of white space over which two blocks still join: some blank lines."""
        return max(self.most // 200, 2)

    @cached_property
    def caps(self) -> tuple[int, ...]:
        """The largest block of each level."""
        room = self.most - self.gap * (len(_SHARES) - 1)
        return tuple(max(room * share // sum(_SHARES), 1) for share in _SHARES)

    def whole(self, kind: str) -> int:
        """Bytes up to which a block stays whole."""
        return self.caps[LIST if kind == "list" else LAST_BODY]


def level_of(kind: str, *, rank: int, text: str, size: int, parameters: ChunkingParameters) -> int:
    """The level of a block that stays whole; `rank` is a heading's level, 1 the highest.

    kind is a block's kind, or "list" for items that follow each other. size counts the indentation too.
    """
    caps = parameters.caps
    if kind == "list":
        return LIST
    if kind == "heading":
        level = min(max(rank, 1), len(_TITLES)) - 1
        if size <= caps[level]:
            return level
    if kind == "paragraph" and size <= caps[ANNOUNCEMENT] and text.endswith((":", "：")):
        return ANNOUNCEMENT
    lowest = next((level for level in range(FIRST_BODY, LAST_BODY) if size <= caps[level]), LAST_BODY)
    opening = hashlib.blake2b(text[:_OPENING].encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return lowest + int.from_bytes(opening, "big") % (LAST_BODY - lowest + 1)
