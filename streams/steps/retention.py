"""Retention: a document goes so many days after its last change, as an ordinary deletion through the log.

The deletion stands right behind the version that it ends, in a stream of its own: the same for every sweeper, so that
two of them, or one that begins anew, say the same again; and older than any change of the document that this sweeper
has not seen. Before this: the policies of the knowledge bases (`runtime/privacy/policy.py`), and the index. After this:
`documents`, and from there index, graves and receipts as with any deletion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Protocol

from schemas.index.manifest import Manifest, live, newest
from schemas.records import DocumentChange, Operation, Origin, Position, split_document_key
from streams.ports import IndexStore

RETENTION = "retention"
"""The kind of a deletion's origin, in the place of cdc, event or upload."""

STREAM = "~retention"
"""The deletions' stream: between streams time decides, then the name, and this one sorts behind all others."""

DAY_MS = 86_400_000
_AT_ONCE = 100
"""Documents in one look: as many as the store takes in one filter."""


class RetentionLog(Protocol):
    """The topic `documents`, for a sweeper. All calls may raise TemporaryFailure."""

    def settled(self) -> Mapping[int, int]:
        """The end of each partition; all before it is indexed. Raises TemporaryFailure if the index is behind."""
        ...

    def append(self, deletions: Sequence[DocumentChange]) -> None:
        """Append them; delivered when the call returns."""
        ...

    def put_back(self, deletions: Sequence[DocumentChange], since: Mapping[int, int]) -> int:
        """Append once more whatever newer change of these documents came since these ends; how many there were.

        Compaction keeps the last record of a document, and that must be its newest.
        """
        ...


def ended(manifest: Manifest, days: int, now_ms: int) -> bool:
    """True if the document's last change, by its source's clock, is so many days ago."""
    return manifest.position.at_ms < now_ms - days * DAY_MS


def deletion(manifest: Manifest) -> DocumentChange:
    """The deletion of a version: it beats this one and what is older, and nothing that the source said later."""
    tenant, base, document_id = split_document_key(manifest.document)
    at_ms = manifest.position.at_ms
    return DocumentChange(
        tenant=tenant,
        knowledge_base=base,
        document_id=document_id,
        operation=Operation.DELETE,
        position=Position(STREAM, 1, at_ms, 0, at_ms),
        origin=Origin(RETENTION, manifest.origin.source, document_id, RETENTION, 0, at_ms),
    )


def sweep(
    tenant: str,
    days: Mapping[str, int],
    *,
    index: IndexStore,
    log: RetentionLog | None,
    now_ms: int,
    looked: Callable[[int], None] = lambda _: None,
) -> dict[str, int]:
    """Delete what is over; by knowledge base, how many. days: of each knowledge base that has a retention.

    log None: nothing is deleted, only counted. looked is told how many documents are through. Memory is bounded by the
    documents' names. May run beside the workers and other sweepers, and may be interrupted. Raises TemporaryFailure.
    """
    counts = dict.fromkeys(days, 0)
    coming = iter(_of_bases(index.documents(tenant), days))
    through = 0
    while part := dict(islice(coming, _AT_ONCE)):
        since = {} if log is None else log.settled()
        stored, barriers = index.manifests(tenant, part.keys(), set(part.values()))
        over = [
            deletion(manifest)
            for document, manifest in newest(stored).items()
            if document in part
            and live(manifest, barriers.get(manifest.origin.source))
            and ended(manifest, days[split_document_key(document)[1]], now_ms)
        ]
        if over and log is not None:
            log.append(over)
            log.put_back(over, since)
        for change in over:
            counts[change.knowledge_base] += 1
        through += len(part)
        looked(through)
    return counts


def _of_bases(documents: Iterable[tuple[str, str]], days: Mapping[str, int]) -> Iterable[tuple[str, str]]:
    seen: set[int] = set()
    for document, source in documents:
        if hash(document) in seen or document.startswith("\x00"):
            continue  # an object of a document met before, or a source's barrier
        seen.add(hash(document))
        if split_document_key(document)[1] in days:
            yield document, source
