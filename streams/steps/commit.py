"""The commit of a batch: the one function whose order is the delivery guarantee.

Before this: `index.py` planned the batch; `vectors.py` finds its vectors. After this: the loop acknowledges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from schemas.index.manifest import Manifest, newest
from schemas.records import Receipt
from streams.core.versions import DocumentPlan, NewChunk, StoredChunk, marks, strays
from streams.failpoints import failpoint
from streams.ports import Clock, IndexStore, Outbox, TemporaryFailure
from streams.steps.vectors import VectorFinder

_LOOKS = 10


@dataclass(frozen=True)
class Batch:
    """A planned batch of one tenant.

    touched: every document of the batch, also those with nothing newer to write. suspects: versions, by document, of
    which objects may lie in the index that no manifest lists, for an earlier try may have planned them against another
    state. again: those of these documents with a change that the index held already, or a newer one: an earlier try may
    have died anywhere in its commit. sources: whose barriers count. slice_texts: how many different texts are worked
    on at once in step 1; their vectors are all that is held in memory.
    """

    tenant: str
    plans: Sequence[DocumentPlan]
    touched: Collection[str]
    again: Collection[str]
    suspects: Mapping[str, Collection[str]]
    sources: Collection[str]
    slice_texts: int


def commit(
    batch: Batch,
    vectors: VectorFinder,
    *,
    stored: Callable[[], None],
    receipts: Callable[[int], Sequence[Receipt]],
    index: IndexStore,
    outbox: Outbox,
    clock: Clock,
) -> int:
    """Make a batch durable in five steps; the fifth, the acknowledgement, is the loop's.

    1. Slice by slice: find or compute the vectors of the new chunks, publish the computed ones (delivery confirmed),
       write the chunk objects (every object's result read), and let go of the vectors. stored is called at the end.
       Publishing comes first, so that the log of vectors holds all that the index holds.
       Death within it, or after it: objects that no manifest lists. No reader shows them; the retry finds the vectors
       of the written slices in the index, and of a slice published but not written in the log of vectors; it writes
       the same ids again, or, if a newer version has come meanwhile, step 3 retires them as strays. Objects of a
       version that is refused halfway stay so: to retire them could hide them under the same version redriven.
    2. Write the manifests. From here on readers see the new versions, whole.
       Death after it: what they replaced is not marked yet. Readers hide it, for the newest manifest does not list it;
       the retry, which has nothing newer to write, still goes through step 3.
    3. Read the documents' manifests again, and mark what the newest ones do not list (`mark`). Read again, because
       another writer (of the other lane, or a paused worker that woke up late) may have written since the plan: each
       writer looks after it has written, so the later of two sees both and cleans up. And each looks once more after
       it has marked, for a newer version that was planned meanwhile may list what it has just retired.
       Death within it: the retry has nothing to write, and looks at the marks themselves of what is listed.
       Death after it: the receipts are missing; the retry sends them.
    4. Publish the receipts, delivery confirmed. receipts is called with the time of step 2.
       Death after it: the batch is handed in once more, and its receipts are sent twice.
    5. Acknowledge (the loop does, in order).

    Returns the time at which the versions were searchable, in milliseconds. Raises TemporaryFailure (hand the same
    batch in again: what was computed is not computed again), PermanentFailure from steps 1 and 2, and what
    VectorFinder.find raises.
    """
    failpoint("before_chunks")
    for part in _slices([chunk for plan in batch.plans for chunk in plan.new], batch.slice_texts):
        texts = {chunk.text_hash: chunk.text for chunk in part}
        found = vectors.find(texts)
        if found.computed:
            outbox.publish([], found.computed)
        failpoint("after_vectors")
        index.write_chunks(batch.tenant, part, found.vectors)
        vectors.written(texts)
        failpoint("between_slices")
    stored()
    failpoint("after_chunks")
    if batch.plans:
        now = clock.now_ms()
        index.write_manifests(batch.tenant, [replace(plan.manifest, indexed_ms=now) for plan in batch.plans])
    searchable_ms = clock.now_ms()
    failpoint("after_manifests")
    unretired = index.unretired(batch.tenant, batch.suspects) if batch.suspects else []
    sure = {
        plan.manifest.document: plan
        for plan in batch.plans
        if plan.manifest.document not in batch.again and not plan.borrows
    }

    def unlisted(current: Sequence[Manifest], barriers: Mapping[str, Manifest]) -> list[StoredChunk]:
        return [
            *strays(unretired, batch.suspects, batch.again, current, barriers),
            *_written_too_late(batch.plans, current),
        ]

    mark(
        batch.tenant,
        batch.touched,
        batch.sources,
        unlisted,
        sure=sure,
        index=index,
        at_ms=searchable_ms,
    )
    failpoint("after_retire")
    outbox.publish(receipts(searchable_ms), [])
    failpoint("after_receipts")
    return searchable_ms


def mark(
    tenant: str,
    documents: Collection[str],
    sources: Collection[str],
    unlisted: Callable[[Sequence[Manifest], Mapping[str, Manifest]], Collection[StoredChunk]] = lambda *_: (),
    *,
    sure: Mapping[str, DocumentPlan] | None = None,
    index: IndexStore,
    at_ms: int,
) -> int:
    """Mark what the newest manifests of these documents do not list, until a look after the last mark finds nothing.

    unlisted: given the manifests and barriers that the first look found, the objects that go unless they are listed.
    sure: the plans of this writer's versions, none of whose objects another writer can have ended unseen. Of documents
    without one, where the manifest that a plan rests on is superseded, and where there is a manifest that this writer
    does not know, another writer may have ended a version, or taken an object of this one for a stray, or an earlier
    try may have died before its looks: the marks themselves of all that is listed are read. Without sure none are.
    Returns how many marks were set. Raises TemporaryFailure, also if other writers of the same documents are at it all
    the time.
    """
    count = 0
    mine: dict[str, bool] = {}
    strayed: Collection[StoredChunk] = ()
    # What is there to be marked again, after this or an earlier try may have marked it, may be marked by half.
    anew = sure is not None and not set(documents) <= sure.keys()
    for _ in range(_LOOKS):
        current, barriers = index.manifests(tenant, documents, sources)
        if sure is not None:
            if hidden := _hidden(tenant, set(documents), sure, current, index):
                # Who retired them had written its manifest before: it is there by now, and may be newer than these.
                current, barriers = index.manifests(tenant, documents, sources)
                mine |= dict.fromkeys(hidden, True)
            sure = None
            strayed = unlisted(current, barriers)
        found = marks(current, barriers, strayed, mine)
        if not found:
            return count
        count += len(found)
        if found.retire or found.supersede:
            index.retire(tenant, found.retire, found.supersede, at_ms, anew=anew)
        if found.revive:
            index.revive(tenant, found.revive, anew=anew)
        strayed, anew = (), True
        mine |= dict.fromkeys(found.retire, True) | dict.fromkeys(found.revive, False)
    raise TemporaryFailure("other writers keep changing the same documents")


def _written_too_late(plans: Iterable[DocumentPlan], current: Iterable[Manifest]) -> Iterable[StoredChunk]:
    """The new objects of versions whose manifests are superseded before their own writer looks.

    Another writer of the same version had written the same objects, and a newer one retired them and superseded the
    manifest, while this one wrote them all again: without a mark those that it wrote after they were retired.
    """
    there = {manifest.id for manifest in current}
    for plan in plans:
        if plan.manifest.id not in there:
            yield from (StoredChunk(chunk.id, chunk.document, chunk.introduced) for chunk in plan.new)


def _hidden(
    tenant: str,
    documents: set[str],
    sure: Mapping[str, DocumentPlan],
    current: Sequence[Manifest],
    index: IndexStore,
) -> set[str]:
    """Chunks that are listed and retired, of documents that are not sure (see `mark`).

    While the manifest that a plan rests on is not superseded, nobody has ended a version after it; and who retires
    something right now looks once more after it.
    """
    there: dict[str, set[str]] = defaultdict(set)
    for manifest in current:
        there[manifest.document].add(manifest.id)
    alone = {
        document
        for document, plan in sure.items()
        if there[document] <= {plan.manifest.id, plan.basis.id if plan.basis else None}
        and (plan.basis is None or plan.basis.id in there[document])
    }
    best = newest(current)
    listed = {identifier for document in documents & best.keys() - alone for identifier in best[document].chunk_ids}
    return index.retired(tenant, listed) if listed else set()


def _slices(new: Iterable[NewChunk], size: int) -> Iterable[list[NewChunk]]:
    """The chunks in slices of so many different texts; of like length, which is what a model takes fastest."""
    by_text: dict[str, list[NewChunk]] = defaultdict(list)
    for chunk in new:
        by_text[chunk.text_hash].append(chunk)
    ordered = sorted(by_text, key=lambda hashed: (len(by_text[hashed][0].text), hashed))
    for at in range(0, len(ordered), size):
        yield [chunk for hashed in ordered[at : at + size] for chunk in by_text[hashed]]
