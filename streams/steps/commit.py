"""The commit of a batch: the one function whose order is the delivery guarantee.

Before this: `index.py` planned the batch and found its vectors. After this: the loop acknowledges.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from schemas.records import Embedding, Receipt
from streams.core.versions import DocumentPlan, leftovers
from streams.failpoints import failpoint
from streams.ports import Clock, IndexStore, Outbox, Vector


@dataclass(frozen=True)
class Batch:
    """A planned batch of one tenant.

    touched: every document of the batch, also those with nothing newer to write. stale: the versions of the batch
    that are not written (skipped or beaten), by document. sources: whose barriers count.
    """

    tenant: str
    plans: Sequence[DocumentPlan]
    touched: Collection[str]
    stale: Mapping[str, Collection[str]]
    sources: Collection[str]
    vectors: Mapping[str, Vector]
    computed: Sequence[Embedding]


def commit(
    batch: Batch,
    receipts: Callable[[int], Sequence[Receipt]],
    *,
    index: IndexStore,
    outbox: Outbox,
    clock: Clock,
) -> int:
    """Make a batch durable in five steps; the fifth, the acknowledgement, is the loop's.

    1. Write the new chunk objects; every object's result is read.
       Death after it: objects that no manifest lists. No reader shows them; the retry writes the same ids again, or,
       if a newer version has come meanwhile, step 3 retires them as strays.
    2. Write the manifests. From here on readers see the new versions, whole.
       Death after it: what they replaced is not marked yet. Readers hide it, for the newest manifest does not list it;
       the retry, which has nothing newer to write, still goes through step 3.
    3. Read the documents' manifests again, and mark retired what the newest ones do not list. Read again, because
       another writer (a paused worker that woke up late) may have written since the plan: each writer looks after it
       has written, so the later of two sees both and cleans up.
       Death after it: the receipts are missing; the retry sends them.
    4. Publish computed vectors and receipts, delivery confirmed. receipts is called with the time of step 2.
       Death after it: the batch is handed in once more, and its receipts are sent twice.
    5. Acknowledge (the loop does, in order).

    Returns the time at which the versions were searchable, in milliseconds. Raises TemporaryFailure (hand the same
    batch in again) or PermanentFailure from steps 1 and 2.
    """
    failpoint("before_chunks")
    new = [chunk for plan in batch.plans for chunk in plan.new]
    if new:
        index.write_chunks(batch.tenant, new, batch.vectors)
    failpoint("after_chunks")
    if batch.plans:
        now = clock.now_ms()
        index.write_manifests(batch.tenant, [replace(plan.manifest, indexed_ms=now) for plan in batch.plans])
    searchable_ms = clock.now_ms()
    failpoint("after_manifests")
    current, barriers = index.manifests(batch.tenant, batch.touched, batch.sources)
    strays = [
        stored
        for stored in (index.unretired(batch.tenant, list(batch.stale)) if batch.stale else [])
        if stored.introduced in batch.stale[stored.document]
    ]
    dropped, gone = leftovers(current, barriers, strays)
    if dropped or gone:
        index.retire(batch.tenant, dropped, gone, searchable_ms)
    failpoint("after_retire")
    outbox.publish(receipts(searchable_ms), batch.computed)
    failpoint("after_receipts")
    return searchable_ms
