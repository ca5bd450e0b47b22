"""The table's operations: what happens to a document of 20 chunks.

Before: nothing. After: `ours.py` and the peers' scripts go through them in this order.

Every paragraph is so long that two do not fit into one chunk, so a chunk is a paragraph for everyone: the table
compares what is embedded and written again, and `../edits` compares where chunks end.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Operation:
    """One thing that happens; what is not said stays. paragraphs is None if the document is deleted."""

    name: str
    document: str
    paragraphs: tuple[str, ...] | None
    title: str = "The gauges of the upper river"
    access: tuple[str, ...] = ("staff",)

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


CHUNKS = 20
_SENTENCE = (
    "Gauge {number} stands where the {number}. brook comes in, and its keeper reads it at {number} past the hour, by "
    "eye, against the painted marks of the year {year}. "
)


def paragraph(number: int) -> str:
    """Some 600 bytes that no other paragraph has."""
    return "".join(_SENTENCE.format(number=number, year=1800 + number * 4 + part) for part in range(4)).strip()


def operations() -> list[Operation]:
    """In order; the document reads as the one before left it."""
    first = tuple(paragraph(number) for number in range(CHUNKS))
    edited = (*first[:7], first[7].replace("by eye", "by ear", 1), *first[8:])
    prepended = (paragraph(99), *edited)
    insert = Operation("insert", "a", first)
    titled = replace(insert, name="title only", paragraphs=edited, title="The gauges of the lower river")
    guarded = replace(titled, name="access list", paragraphs=first, access=("staff", "guests"))
    return [
        insert,
        replace(insert, name="edit one sentence", paragraphs=edited),
        titled,
        replace(titled, name="same row again"),
        replace(titled, name="second document, same text", document="b"),
        replace(titled, name="paragraph on top", paragraphs=prepended),
        replace(titled, name="revert to the first text", paragraphs=first),
        guarded,
        replace(guarded, name="delete", paragraphs=None),
        replace(guarded, name="re-add after delete"),
        replace(guarded, name="rebuild", document="all"),
    ]
