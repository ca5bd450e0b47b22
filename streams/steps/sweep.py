"""The sweep: what a writer left that died where nobody follows it, found by reading the whole index.

The commit cleans up after itself, and whoever takes its records over cleans up after it. Two things escape both. A
writer that was taken for dead wakes up when its records are done and acknowledged, writes on, and then dies: what it
wrote is beaten, so no reader sees it, but it is not marked. And a manifest that was written while the store was killed
may have lost some of its index entries. Before this: `commit.py`. After this: nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from streams.core.versions import strays
from streams.ports import IndexStore
from streams.steps.commit import mark

_AT_ONCE = 100
"""Documents in one look: as many as the store takes in one filter."""


def sweep(tenant: str, *, index: IndexStore, at_ms: int, looked: Callable[[int], None] = lambda _: None) -> int:
    """Go through all documents of a tenant as if each came again with nothing to write; how many marks were set.

    May run beside the writers, and may be interrupted: the next one begins anew. looked is told how many documents are
    through. Raises TemporaryFailure.
    """
    index.write_manifests(tenant, list(index.unfound(tenant)))
    seen: set[int] = set()
    marked = 0

    def fresh() -> Iterable[tuple[str, str]]:
        for document, source in index.documents(tenant):
            if hash(document) not in seen:
                seen.add(hash(document))
                yield document, source

    coming = iter(fresh())
    while part := dict(islice(coming, _AT_ONCE)):
        marked += _swept(tenant, part.keys(), set(part.values()), index, at_ms)
        looked(len(seen))
    return marked


def _swept(tenant: str, documents: Iterable[str], sources: set[str], index: IndexStore, at_ms: int) -> int:
    names = set(documents)
    unretired = index.unretired(tenant, names)
    return mark(
        tenant,
        names,
        sources,
        lambda current, barriers: strays(unretired, {}, names, current, barriers),
        sure={},
        index=index,
        at_ms=at_ms,
    )
