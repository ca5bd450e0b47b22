"""What the product embeds of a history: each distinct chunk text once, for it pays for a text once in a tenant.

Before: `history.py`. After: `measure.py`. The index stage finds vectors by text hash among all chunk objects of the
tenant (`IndexStep`); `tests/property/test_index_machine.py` and the table of calls hold it to that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from streams.core.chunking import chunk
from streams.core.identity import text_hash
from tests.bench.edits.history import Revision


def cut(revision: Revision) -> list[str]:
    """The chunk texts of a revision, with the product's parameters."""
    text = revision.text or ""
    return [text[piece.start : piece.end] for piece in chunk(text, content_type=revision.content_type)]


@dataclass
class Ours:
    """The index stage's arithmetic over a history."""

    chunks: Callable[[Revision], list[str]] = cut
    _paid: set[str] = field(default_factory=set)

    def embedded(self, chunks: list[str]) -> list[str]:
        """Those that have no vector yet; they have one from now on."""
        new = {hashed: text for text in chunks if (hashed := text_hash(text)) not in self._paid}
        self._paid |= new.keys()
        return list(new.values())
