"""What a batch of changes of one document does to the index: which objects are new, which manifest follows.

Before this: `chunking.py`, `identity.py`. After this: `steps/index.py` finds the vectors, `steps/commit.py` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from schemas.index.manifest import Manifest, Span, barrier_document, beats, live, newest
from schemas.records import DocumentChange, MetadataValue, Operation
from streams.core.chunking import ChunkingParameters, chunk
from streams.core.identity import chunk_id, filterable_metadata, object_hash, text_hash


@dataclass(frozen=True)
class NewChunk:
    """A chunk object that the index does not hold yet; its vector is found by text hash."""

    id: str
    document: str
    knowledge_base: str
    source: str
    text: str
    text_hash: str
    introduced: str
    metadata: dict[str, MetadataValue] = field(default_factory=dict)
    access: tuple[str, ...] | None = None


@dataclass(frozen=True)
class StoredChunk:
    """A chunk object in the index: its id, its document's key, and the version that introduced it."""

    id: str
    document: str
    introduced: str


@dataclass(frozen=True)
class DocumentPlan:
    """What the newest of some changes does: its manifest, and the objects to write before it.

    basis: the newest manifest that the index held when this was planned; unchanged chunks are its objects.
    """

    manifest: Manifest
    new: tuple[NewChunk, ...]
    basis: Manifest | None = None

    @property
    def borrows(self) -> bool:
        """It rests on no manifest, yet lists objects of an older version of the same batch.

        Another writer may hold that version alone and retire them, and no manifest's mark would tell.
        """
        mine = self.manifest.position.version
        return self.basis is None and any(item.introduced != mine for item in self.new)


def plan_document(
    changes: Sequence[DocumentChange],
    known: Manifest | None,
    parameters: ChunkingParameters,
) -> DocumentPlan | None:
    """The plan for changes of one document, given the newest manifest the index holds; None if none is newer.

    Versions between the known one and the newest are gone through too (without embedding): one of them may have
    dropped a chunk that the newest has again, and a late writer of that version would retire the old object.
    """
    versions = sorted(
        (c for c in changes if known is None or c.position.newer_than(known.position)), key=_beaten_by_fewest(changes)
    )
    if not versions:
        return None
    manifest, new = known, dict[str, NewChunk]()
    for change in versions:
        manifest, introduced = _next_version(change, manifest, parameters)
        new |= introduced
    assert manifest is not None  # noqa: S101  there was at least one version
    listed = manifest.chunk_ids
    return DocumentPlan(
        manifest=manifest,
        new=tuple(item for item in new.values() if item.id in listed),
        basis=known,
    )


def strays(
    unretired: Collection[StoredChunk],
    suspects: Mapping[str, Collection[str]],
    again: Collection[str],
    manifests: Sequence[Manifest],
    barriers: Mapping[str, Manifest],
) -> list[StoredChunk]:
    """Those of some documents' unretired objects that go unless the newest manifest lists them.

    What a suspect version introduced, and of a document that is handed in again, what was introduced before its newest
    manifest or before a barrier: an earlier try may have taken it for listed, revived it, and died before it looked
    once more, while another writer went on to supersede the manifest that lists it. What is newer may be another
    writer's, whose manifest is still to come.
    """
    best = newest(manifests)

    def beaten(item: StoredChunk) -> bool:
        ends = [*barriers.values(), *([best[item.document]] if item.document in best else [])]
        stream, _, _ = item.introduced.rpartition("@")
        return any(end.position.stream == stream and item.introduced < end.position.version for end in ends)

    return [
        item
        for item in unretired
        if item.introduced in suspects.get(item.document, ()) or (item.document in again and beaten(item))
    ]


@dataclass(frozen=True)
class Marks:
    """What is to be marked: chunks as retired, manifests as superseded; and chunks that are retired, but listed."""

    retire: frozenset[str]
    supersede: tuple[Manifest, ...]
    revive: frozenset[str]

    def __len__(self) -> int:
        return len(self.retire) + len(self.supersede) + len(self.revive)


def marks(
    manifests: Sequence[Manifest],
    barriers: Mapping[str, Manifest],
    strays: Collection[StoredChunk],
    mine: Mapping[str, bool],
) -> Marks:
    """What is to be marked, given every manifest not yet superseded of some documents.

    A manifest goes if another one beats it, or a barrier of its source ended it; its chunks go with it unless the
    document's newest manifest lists them. strays are unretired objects of versions that never got, or will not get, a
    manifest (a writer died before it); they go unless they are listed. mine: chunks of which this writer knows the
    mark (True: retired), for it set or read it; to be marked anew where somebody's newer manifest says otherwise.

    Two writers may have planned on one state, the older version of which drops a chunk that the newer keeps. The
    older one's writer, not seeing the newer yet, retires it. Whoever sees both revives it.
    """
    best = newest(manifests)
    visible = {
        document: manifest.chunk_ids
        for document, manifest in best.items()
        if live(manifest, barriers.get(manifest.origin.source))
    }
    gone = [
        manifest
        for manifest in manifests
        if manifest.id != best[manifest.document].id or (not manifest.grave and manifest.document not in visible)
    ]
    shown = frozenset[str]().union(*visible.values())
    dropped = {identifier for manifest in gone for identifier in manifest.chunk_ids}
    dropped |= {stray.id for stray in strays} | {identifier for identifier, retired in mine.items() if not retired}
    hidden = {identifier for identifier, retired in mine.items() if retired}
    for manifest in gone:
        if manifest.document in visible:
            last = best[manifest.document]
            between = [
                other
                for other in [*gone, *barriers.values()]
                if other.document in (manifest.document, barrier_document(manifest.origin.source))
                and beats(other, manifest)
                and beats(last, other)
            ]
            hidden |= {i for i in manifest.chunk_ids if any(i not in other.chunk_ids for other in between)}
    return Marks(frozenset(dropped - shown), tuple(gone), frozenset(hidden & shown))


def _beaten_by_fewest(changes: Sequence[DocumentChange]) -> Callable[[DocumentChange], int]:
    """A sort key under which a position that beats more of the others comes later."""
    return lambda change: sum(change.position.newer_than(other.position) for other in changes)


def _next_version(
    change: DocumentChange, before: Manifest | None, parameters: ChunkingParameters
) -> tuple[Manifest, dict[str, NewChunk]]:
    """The manifest of a change that follows `before`, and the objects that begin with it."""
    if change.operation is not Operation.UPSERT or not (change.text or "").strip():
        # An empty document has nothing to be found by, but it lives: only a deletion leaves a grave.
        grave = change.operation is not Operation.UPSERT
        return _manifest(change, (), grave=grave), {}
    assert change.text is not None  # noqa: S101  just seen not to be blank
    running = {span.object_hash: span.chunk_id for span in before.spans} if before else {}
    metadata = filterable_metadata(change)
    new: dict[str, NewChunk] = {}
    spans = []
    pieces = chunk(change.text, content_type=change.content_type, blocks=change.blocks, parameters=parameters)
    for piece in pieces:
        text = change.text[piece.start : piece.end]
        hashed = object_hash(text, source=change.origin.source, metadata=metadata, access=change.access)
        identifier = running.get(hashed)
        if identifier is None:
            identifier = chunk_id(change.key, hashed, change.position.version)
            new[identifier] = NewChunk(
                id=identifier,
                document=change.key,
                knowledge_base=change.knowledge_base,
                source=change.origin.source,
                text=text,
                text_hash=text_hash(text),
                introduced=change.position.version,
                metadata=metadata,
                access=None if change.access is None else tuple(change.access),
            )
        spans.append(Span(identifier, hashed, piece.start, piece.end, piece.heading, piece.page))
    return _manifest(change, tuple(spans), grave=False), new


def _manifest(change: DocumentChange, spans: tuple[Span, ...], *, grave: bool) -> Manifest:
    return Manifest(
        document=change.key,
        position=change.position,
        origin=change.origin,
        spans=spans,
        grave=grave,
        title=change.title,
        metadata=dict(change.metadata),
        access=None if change.access is None else tuple(change.access),
        upload_id=change.upload_id,
    )
