"""Our row of the table: the index step itself, with an index in memory and a counting model.

Before: `operations.py`. After: `table.py`. That the real store and the real workers do the same is tested elsewhere
(`tests/property`, `tests/integration`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from schemas.records import DocumentChange, Operation
from streams.core.chunking import ChunkingParameters
from streams.core.outcomes import Done
from streams.ports import Vector
from tests.bench.peers import operations
from tests.property.test_index_machine import CountingEmbedder, MemoryOutbox, inbound, make_change, make_step
from tests.support.fake_index import FakeIndex


@dataclass
class Log:
    """The topic `embeddings`, read back."""

    outbox: MemoryOutbox

    def vectors(self, tenant: str, text_hashes: Collection[str]) -> dict[str, Vector]:
        """As VectorLog.vectors."""
        import numpy as np

        found = {one.text_hash: one for one in self.outbox.embeddings if one.tenant == tenant}
        return {name: np.frombuffer(found[name].vector, "<f4") for name in text_hashes if name in found}


@dataclass
class Table:
    """One index over the operations."""

    index: FakeIndex = field(default_factory=FakeIndex)
    embedder: CountingEmbedder = field(default_factory=CountingEmbedder)
    outbox: MemoryOutbox = field(default_factory=MemoryOutbox)
    changes: list[DocumentChange] = field(default_factory=list)

    def row(self) -> list[dict[str, int] | None]:
        """Texts embedded, chunk objects written and retired by each operation."""
        return [self._done(operation) for operation in operations.operations()]

    def _done(self, operation: operations.Operation) -> dict[str, int] | None:
        if operation.name == "rebuild":
            return self._rebuilt()
        change = make_change(
            operation.document,
            len(self.changes) + 1,
            None if operation.paragraphs is None else "\n\n".join(operation.paragraphs),
            operation=Operation.DELETE if operation.paragraphs is None else None,
            access=list(operation.access),
        )
        self.changes.append(replace(change, title=operation.title))
        return self._counted(self.index, self.changes[-1:])

    def _rebuilt(self) -> dict[str, int]:
        """All of the log into a new index, by the vectors that were published."""
        newest = {change.key: change for change in self.changes}
        return self._counted(FakeIndex(), list(newest.values()), vector_log=Log(self.outbox))

    def _counted(self, index: FakeIndex, changes: Sequence[DocumentChange], **settings: Log) -> dict[str, int]:
        paid, written = len(self.embedder.texts), set(index.chunks)
        gone = _retired(index)
        step = replace(make_step(index, self.embedder), parameters=ChunkingParameters(), outbox=self.outbox, **settings)
        for number, outcome in enumerate(step.handle_now([inbound(change) for change in changes])):
            assert isinstance(outcome, Done), f"change {number}: {outcome}"
        return {
            "texts": len(self.embedder.texts) - paid,
            "writes": len(index.chunks.keys() - written),
            "deletes": len(_retired(index) - gone),
        }


def _retired(index: FakeIndex) -> set[str]:
    return {name for name, stored in index.chunks.items() if stored.retired}
