"""What the steps ask of the outside. Adapters implement it, tests bring their own; both pass one contract suite.

Errors cross this line in two sorts only: TemporaryFailure (again later) and PermanentFailure (never, for this input).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.headers import last_header
from schemas.index.manifest import Manifest
from schemas.lanes import Lane
from schemas.records import DocumentChange, Embedding, Position, Receipt
from streams.core.letters import Place, first_seen
from streams.core.outcomes import Outcome, Rejected
from streams.core.versions import NewChunk, StoredChunk

Vector = NDArray[np.float32]


class TemporaryFailure(Exception):
    """Something we stand on is away or busy. after_s: how long to wait, if it said so."""

    def __init__(self, text: str, after_s: float | None = None) -> None:
        super().__init__(text)
        self.after_s = after_s


class Misconfigured(TemporaryFailure):
    """It will not work until a person acts: a wrong key, a missing permission or topic. No record is at fault."""


class PermanentFailure(Exception):
    """This input will never be taken. reason is a slug for metrics and dead letters.

    Raised for a batch it does not say which of its documents is the cause: the step halves the batch to find out.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Inbound:
    """A record as it lies in a topic. timestamp_ms is the log's."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def place(self) -> Place:
        """Where it lies."""
        return Place(self.topic, self.partition, self.offset)

    def first_seen(self) -> Inbound:
        """The record with the offset and timestamp under which it was first accepted: other than its own if it was
        redriven. From these its document's position is made, so that an old version stays old. Raises NotRedriven.
        """
        first, first_ms = first_seen(self.headers, self.place, self.timestamp_ms)
        return replace(self, offset=first.offset, timestamp_ms=first_ms)

    def header(self, name: str) -> str | None:
        """The last header of this name, as text."""
        return last_header(self.headers, name)


class Step(Protocol):
    """One stage's work. Raises nothing: whatever happens becomes an outcome."""

    @property
    def name(self) -> str:
        """The stage's name."""
        ...

    async def handle(self, batch: Sequence[Inbound]) -> list[Outcome]:
        """One outcome for each record, in order. A record may be handed in again after any outcome."""
        ...

    async def failed(self, record: Inbound, outcome: Rejected) -> None:
        """A record was parked: tell those who wait for it. May raise TemporaryFailure."""
        ...


class IndexStore(Protocol):
    """One generation of the index, for one writer among several. All calls may raise TemporaryFailure."""

    def manifests(
        self, tenant: str, documents: Collection[str], sources: Collection[str]
    ) -> tuple[list[Manifest], dict[str, Manifest]]:
        """Every manifest of these documents not marked superseded, and the newest barrier of each source with one."""
        ...

    def unretired(self, tenant: str, documents: Collection[str]) -> list[StoredChunk]:
        """The chunk objects of these documents that are not marked retired."""
        ...

    def retired(self, tenant: str, chunk_ids: Collection[str]) -> set[str]:
        """Those of these chunk objects that are marked retired."""
        ...

    def vectors(self, tenant: str, text_hashes: Collection[str]) -> dict[str, Vector]:
        """Vectors the index holds for these texts, live or retired."""
        ...

    def write_chunks(self, tenant: str, chunks: Sequence[NewChunk], vectors: Mapping[str, Vector]) -> None:
        """Write chunk objects (vectors by text hash); every object's result is read. The same id twice is one."""
        ...

    def write_manifests(self, tenant: str, manifests: Sequence[Manifest]) -> None:
        """Write manifests: from here on readers see these versions."""
        ...

    def retire(
        self,
        tenant: str,
        chunk_ids: Collection[str],
        manifests: Collection[Manifest],
        at_ms: int,
        *,
        anew: bool = False,
    ) -> None:
        """Mark chunks retired and manifests superseded; one that is not there, or is marked, is no error.

        anew: an earlier try may have died in it, or the store under it: leave no mark half set.
        """
        ...

    def revive(self, tenant: str, chunk_ids: Collection[str], *, anew: bool = False) -> None:
        """Take the mark `retired` back; one that is not there is no error. anew as in `retire`."""
        ...

    def documents(self, tenant: str) -> Iterable[tuple[str, str]]:
        """Document and source of every object without a mark, read from the objects themselves; some many times."""
        ...

    def unfound(self, tenant: str) -> Iterable[Manifest]:
        """Manifests that are held without a mark, and that one of the filters asked here or by a reader misses."""
        ...

    def documents_before(self, tenant: str, source: str, barrier: Position) -> Iterable[Manifest]:
        """The live manifests of a source that are older than the barrier."""
        ...


class VectorLog(Protocol):
    """What the topic `embeddings` remembers: asked for what the index does not hold, before the model is."""

    def vectors(self, tenant: str, text_hashes: Collection[str]) -> dict[str, Vector]:
        """Vectors of this generation's model for these texts, as far as there are any. Raises TemporaryFailure."""
        ...


class Outbox(Protocol):
    """What the index stage tells the rest: delivered when the call returns. Raises TemporaryFailure."""

    def publish(self, receipts: Sequence[Receipt], embeddings: Sequence[Embedding]) -> None:
        """Receipts and computed vectors, to their topics."""
        ...

    def progress(self, receipts: Sequence[Receipt]) -> None:
        """Receipts on the way, for people who watch: sent, not waited for; their loss harms nobody."""
        ...


class ChangeLog(Protocol):
    """What capture and parse append to: delivered when the call returns. Raises TemporaryFailure, PermanentFailure."""

    def changes(self, changes: Sequence[tuple[DocumentChange, Lane]]) -> None:
        """Changes, each with its lane, to the topic `documents`, in order."""
        ...

    def receipts(self, receipts: Sequence[Receipt]) -> None:
        """Receipts, to the topic `receipts`."""
        ...


class Clock(Protocol):
    """Wall time, for measurements only; it never decides an order."""

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        ...
