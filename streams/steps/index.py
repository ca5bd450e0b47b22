"""The index stage: changes become chunks, chunks get vectors, the newest version of each document becomes searchable.

Before this: `capture.py` and `parse.py` fill the topic `documents`. After this: `commit.py`, then the query API reads.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runtime.embedding.contract import (
    Embedder,
    EmbeddingRejected,
)
from runtime.metrics import Metrics
from schemas.codec import Codec, DecodeError
from schemas.index.manifest import Manifest, barrier_document, live, newest
from schemas.lanes import Lane
from schemas.records import SNAPSHOT_END, DocumentChange, Operation, Origin, Receipt, ReceiptStage
from streams.core.chunking import ChunkingParameters
from streams.core.outcomes import PASSED_OVER, Done, Outcome, Rejected, Retry
from streams.core.versions import DocumentPlan, plan_document
from streams.ports import (
    Clock,
    Inbound,
    IndexStore,
    Outbox,
    PermanentFailure,
    Vector,
    VectorLog,
)
from streams.steps.commit import Batch, commit, mark
from streams.steps.failures import failed_receipt, outcome_of
from streams.steps.restricted import REFUSED, restricted, without_text
from streams.steps.retention import RETENTION
from streams.steps.vectors import TextsRefused, VectorFinder

_SLICE_TEXTS = 256
"""Texts embedded and written before the next are looked at: a worker on a large document shows that it lives."""

_GROUP_BYTES = 4_194_304
"""Records decoded, planned and committed together (4 MiB): a hundred large documents do not lie in memory at once."""

_ONE_DOCUMENT = 8
"""Times as many bytes of one document's records stay together: a hot row is indexed once, not once for each group."""


class _Refused(Exception):
    """These versions (by document) will never be taken; their neighbours may."""

    def __init__(self, versions: Mapping[str, str], reason: str, detail: str) -> None:
        super().__init__(detail)
        self.versions = dict(versions)
        self.outcome = Rejected(reason, detail)


@dataclass(frozen=True)
class IndexStep:
    """Step of the stage `index`. generation names the collections the store writes to.

    lane: only its records are handled, the others are passed over unread; None: all are (a rebuild).
    sends_out: the embedder is not ours, and gets no text of a restricted document (`restricted.py`).
    vector_log: asked for vectors that the index does not hold. leading: for a generation that is fed beside it, the
    live one; it has read further, and versions that it knows to be over are not embedded here. slice_texts: as in
    Batch. group_bytes: of a batch, so much is worked on at once. spare is the step's own.
    """

    codec: Codec
    index: IndexStore
    embedder: Embedder
    outbox: Outbox
    clock: Clock
    metrics: Metrics
    generation: str
    parameters: ChunkingParameters = field(default_factory=ChunkingParameters)
    vector_log: VectorLog | None = None
    leading: IndexStore | None = None
    lane: Lane | None = None
    sends_out: bool = False
    slice_texts: int = _SLICE_TEXTS
    group_bytes: int = _GROUP_BYTES
    name: str = "index"
    spare: dict[tuple[str, str], Vector] = field(default_factory=dict)

    async def handle(self, batch: Sequence[Inbound]) -> list[Outcome]:
        """As Step.handle. The work is done in a thread: stores and models are waited for, or let go of the GIL."""
        return await asyncio.to_thread(self.handle_now, batch)

    def handle_now(self, batch: Sequence[Inbound]) -> list[Outcome]:
        """As handle, in the caller's thread."""
        outcomes: dict[int, Outcome] = {}
        for group in _groups(batch, self.group_bytes):
            outcomes |= self._handle_group({at: batch[at] for at in group})
        return [outcomes[at] for at in range(len(batch))]

    def _handle_group(self, records: Mapping[int, Inbound]) -> dict[int, Outcome]:
        outcomes: dict[int, Outcome] = {}
        by_tenant: dict[str, dict[int, DocumentChange]] = defaultdict(dict)
        for at, record in records.items():
            if self.lane is not None and Lane.of(record.headers) is not self.lane:
                outcomes[at] = PASSED_OVER
                continue
            if record.value is None:
                outcomes[at] = Done("ignored")
                continue
            try:
                change = self.codec.decode(record.value, DocumentChange)
            except Exception as error:  # noqa: BLE001  every one has its class
                outcomes[at] = outcome_of(error)
                continue
            by_tenant[change.tenant][at] = without_text(change) if self._kept_out(change) else change
        for tenant, changes in by_tenant.items():
            outcomes |= self._settle(tenant, changes)
        return outcomes

    async def failed(self, record: Inbound, outcome: Rejected) -> None:
        """As Step.failed."""
        try:
            change = self.codec.decode(record.value or b"", DocumentChange)
        except DecodeError:
            return
        receipt = failed_receipt(change, outcome, self.clock.now_ms())
        await asyncio.to_thread(self.outbox.publish, [receipt], [])

    def _settle(self, tenant: str, changes: dict[int, DocumentChange]) -> dict[int, Outcome]:
        """An outcome for each change: all at once, or, where one spoils the batch, without it.

        Where nothing says which one it is, the batch is halved until it stands alone. What was embedded meanwhile is
        kept or in the index already: to go through the others again costs no call.
        """
        if not changes:
            return {}
        try:
            return self._process(tenant, changes)
        except _Refused as error:
            refused = {at for at, c in changes.items() if error.versions.get(c.key) == c.position.version}
            rest = self._settle(tenant, {at: change for at, change in changes.items() if at not in refused})
            return rest | dict.fromkeys(refused, error.outcome)
        except Exception as error:  # noqa: BLE001  a defect of ours, too: isolate the change that meets it
            failure = outcome_of(error)
        if isinstance(failure, Retry) and not failure.limited:
            return dict.fromkeys(changes, failure)
        return self._apart(tenant, changes, failure)

    def _apart(self, tenant: str, changes: dict[int, DocumentChange], failure: Outcome) -> dict[int, Outcome]:
        """The failure is that of one change: found by halves, and of one document's versions each for itself.

        The other versions are good, and one of them may be what is to be seen.
        """
        if len(changes) == 1:
            return dict.fromkeys(changes, failure)
        documents = sorted({change.key for change in changes.values()})
        half = set(documents[: len(documents) // 2])
        parts = [{at: c for at, c in changes.items() if (c.key in half) is first} for first in (True, False)]
        if len(documents) == 1:
            parts = [{at: change} for at, change in changes.items()]
        return {at: outcome for part in parts for at, outcome in self._settle(tenant, part).items()}

    def _process(self, tenant: str, changes: dict[int, DocumentChange]) -> dict[int, Outcome]:
        barriers = [change for change in changes.values() if change.operation is Operation.BARRIER]
        for change in barriers:
            self._raise_barrier(change)
        by_document: dict[str, list[DocumentChange]] = defaultdict(list)
        for change in changes.values():
            if change.operation is not Operation.BARRIER:
                by_document[change.key].append(change)
        sources = {change.origin.source for change in changes.values()}
        stored, raised = self.index.manifests(tenant, by_document, sources)
        known = newest(stored)
        plans = {
            document: plan
            for document, found in by_document.items()
            if (plan := self._plan(found, known.get(document), raised)) is not None
        }
        for document in self._over(tenant, plans):
            del plans[document]
        self._progress(changes, plans, ReceiptStage.CHUNKED)
        written = {document: plan.manifest.position.version for document, plan in plans.items()}
        # Of a document that the index does not know, the only version needs no look: any earlier try planned it alike.
        suspects = {
            document: versions
            for document, found in by_document.items()
            if len(versions := {change.position.version for change in found}) > 1
            or document in known
            or document not in plans
        }
        batch = Batch(
            tenant=tenant,
            plans=list(plans.values()),
            touched=list(by_document),
            again={
                document
                for document, found in by_document.items()
                if document not in plans
                or (document in known and any(not c.position.newer_than(known[document].position) for c in found))
            },
            suspects=suspects,
            sources=sources,
            slice_texts=self.slice_texts,
        )
        final = {document: plan.manifest for document, plan in plans.items()}
        current = {**known, **final}
        stages = {at: self._stage(change, current, raised) for at, change in changes.items()}
        vectors = VectorFinder(tenant, self.index, self.vector_log, self.embedder, self.metrics, self.spare)

        def receipts(searchable_ms: int) -> list[Receipt]:
            return [
                self._receipt(change, stages[at], plans.get(change.key), vectors.embedded, searchable_ms)
                for at, change in changes.items()
                if not (change.operation is Operation.BARRIER and change.origin.ref == SNAPSHOT_END)
                and not self._kept_out(change)
            ]

        try:
            searchable_ms = commit(
                batch,
                vectors,
                stored=lambda: self._progress(changes, plans, ReceiptStage.EMBEDDED),
                receipts=receipts,
                index=self.index,
                outbox=self.outbox,
                clock=self.clock,
            )
        except TextsRefused as error:
            with_them = {
                document: written[document]
                for document, plan in plans.items()
                if any(chunk.text_hash in error.hashes for chunk in plan.new)
            }
            raise _Refused(with_them, "embedding_rejected", error.detail) from error
        except (PermanentFailure, EmbeddingRejected) as error:
            if len(written) != 1:
                raise
            # Only the version that was to be written can be at fault: an older one in the batch may yet be taken.
            reason = error.reason if isinstance(error, PermanentFailure) else "embedding_rejected"
            detail = error.detail if isinstance(error, PermanentFailure) else str(error)
            raise _Refused(written, reason, detail) from error
        self._measure(changes, stages, plans, vectors.embedded, searchable_ms)
        return {
            at: REFUSED if self._kept_out(change) else Done(stages[at].value.lower()) for at, change in changes.items()
        }

    def _kept_out(self, change: DocumentChange) -> bool:
        return self.sends_out and restricted(change)

    def _plan(
        self, changes: Sequence[DocumentChange], known: Manifest | None, barriers: dict[str, Manifest]
    ) -> DocumentPlan | None:
        """The document's plan, without the changes that a barrier of their source has ended."""
        alive = [
            change
            for change in changes
            if (barrier := barriers.get(change.origin.source)) is None or not barrier.position.ends(change.position)
        ]
        if known is not None and not live(known, barriers.get(known.origin.source)):
            known = replace(known, spans=())  # its chunks are retired, or will be
        return plan_document(alive, known, self.parameters)

    def _over(self, tenant: str, plans: Mapping[str, DocumentPlan]) -> list[str]:
        """Documents whose planned version the leading generation has replaced or ended: what did so comes later here.

        A rebuild reads every version that the log still holds, in batches that fall elsewhere, and in both lanes: it
        would pay for texts that were never indexed.
        """
        if self.leading is None:
            return []
        dear = {document: plan.manifest for document, plan in plans.items() if plan.new}
        if not dear:
            return []
        stored, raised = self.leading.manifests(tenant, dear, {planned.origin.source for planned in dear.values()})
        ahead = newest(stored)
        return [
            document
            for document, planned in dear.items()
            if (document in ahead and ahead[document].position.newer_than(planned.position))
            or not live(planned, raised.get(planned.origin.source))
        ]

    def _raise_barrier(self, change: DocumentChange) -> None:
        """End every older document of a source: first the barrier, by which readers hide them; then the marks."""
        source = change.origin.source
        barrier = Manifest(barrier_document(source), change.position, change.origin, grave=True)
        self.index.write_manifests(change.tenant, [barrier])
        ended: list[str] = []
        for manifest in self.index.documents_before(change.tenant, source, change.position):
            ended.append(manifest.document)
            if len(ended) == 200:
                self._mark(change, ended)
                ended = []
        self._mark(change, ended)

    def _mark(self, barrier: DocumentChange, ended: Sequence[str]) -> None:
        if ended:
            # Looked at once more with all their manifests: one newer than the barrier may list the same chunks.
            now = self.clock.now_ms()
            mark(barrier.tenant, ended, [barrier.origin.source], index=self.index, at_ms=now)

    def _stage(
        self, change: DocumentChange, current: dict[str, Manifest], barriers: dict[str, Manifest]
    ) -> ReceiptStage:
        """What became of a change, given the newest manifest of its document after the commit."""
        if change.operation is Operation.BARRIER:
            return ReceiptStage.DELETED
        manifest = current.get(change.key)
        if manifest is None or manifest.position.version != change.position.version:
            return ReceiptStage.SUPERSEDED
        return ReceiptStage.INDEXED if live(manifest, barriers.get(change.origin.source)) else ReceiptStage.DELETED

    def _receipt(
        self,
        change: DocumentChange,
        stage: ReceiptStage,
        plan: DocumentPlan | None,
        embedded: set[str],
        now_ms: int,
    ) -> Receipt:
        mine = plan if plan and plan.manifest.position.version == change.position.version else None
        count = len({item.text_hash for item in mine.new} & embedded) if mine else 0
        return Receipt(
            tenant=change.tenant,
            knowledge_base=change.knowledge_base,
            document_id=change.document_id,
            stage=stage,
            accepted=change.origin.receipt_position,
            version=change.position.version,
            source=change.origin.source,
            generation=self.generation,
            upload_id=change.upload_id,
            chunks=len(mine.manifest.spans) if mine else 0,
            embedded=count,
            reused=len(mine.manifest.spans) - count if mine else 0,
            request_id=change.request_id,
            # A deletion by retention was committed by no source: it says nothing of freshness.
            source_ms=0 if change.origin.kind == RETENTION else change.position.at_ms,
            receipt_ms=now_ms,
        )

    def _progress(
        self, changes: dict[int, DocumentChange], plans: dict[str, DocumentPlan], stage: ReceiptStage
    ) -> None:
        now = self.clock.now_ms()
        watched = [change for change in changes.values() if change.upload_id and change.key in plans]
        self.outbox.progress([self._receipt(change, stage, plans[change.key], set(), now) for change in watched])

    def _measure(
        self,
        changes: dict[int, DocumentChange],
        stages: dict[int, ReceiptStage],
        plans: dict[str, DocumentPlan],
        embedded: set[str],
        searchable_ms: int,
    ) -> None:
        for at, change in changes.items():
            if stages[at] in (ReceiptStage.INDEXED, ReceiptStage.DELETED) and change.origin.kind != RETENTION:
                seconds = max(0.0, (searchable_ms - change.position.at_ms) / 1000)
                self.metrics.freshness_seconds.labels(source=timed_as(change.origin)).observe(seconds)
        for plan in plans.values():
            count = len({item.text_hash for item in plan.new} & embedded)
            self.metrics.chunks.labels(outcome="embedded").inc(count)
            self.metrics.chunks.labels(outcome="reused").inc(len(plan.manifest.spans) - count)


def _groups(batch: Sequence[Inbound], most_bytes: int) -> Iterable[list[int]]:
    """The batch's records (by place) in groups of about so many bytes; a document's records stay together, in order.

    Only the records of one document that are far too large together are parted: then more than its newest version is
    indexed, one after the other, which is right as well, and bounded.
    """
    by_key: dict[bytes | None, list[int]] = defaultdict(list)
    for at, record in enumerate(batch):
        by_key[record.key].append(at)
    group: list[int] = []
    held = 0
    for places in by_key.values():
        together = sum(len(batch[at].value or b"") for at in places)
        if group and held + together > most_bytes:
            yield group
            group, held = [], 0
        for at in places:
            size = len(batch[at].value or b"")
            if group and held + size > _ONE_DOCUMENT * most_bytes:
                yield group
                group, held = [], 0
            group.append(at)
            held += size
    if group:
        yield group


def timed_as(origin: Origin) -> str:
    """The source in the metric: what a sender calls itself is no label, for it may use any number of names."""
    return origin.source if origin.kind == "cdc" else f"{origin.kind}s"
