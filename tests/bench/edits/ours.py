"""What the product embeds of a history: each distinct chunk text once, for it pays for a text once in a tenant.

Before: `history.py`. After: `measure.py`. The index stage finds vectors by text hash among all chunk objects of the
tenant (`IndexStep._vectors`); `tests/property/test_index_machine.py` and the table of calls hold it to that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from streams.core.chunking import ChunkingParameters, chunk
from streams.core.identity import text_hash
from tests.bench.edits.history import Revision


@dataclass
class Ours:
    """The index stage's arithmetic over a history."""

    parameters: ChunkingParameters = field(default_factory=ChunkingParameters)
    _paid: set[str] = field(default_factory=set)

    def chunks(self, revision: Revision) -> list[str]:
        """The chunk texts of a revision."""
        text = revision.text or ""
        pieces = chunk(text, content_type=revision.content_type, parameters=self.parameters)
        return [text[piece.start : piece.end] for piece in pieces]

    def embedded(self, chunks: list[str]) -> list[str]:
        """Those that have no vector yet; they have one from now on."""
        new = {hashed: text for text in chunks if (hashed := text_hash(text)) not in self._paid}
        self._paid |= new.keys()
        return list(new.values())
