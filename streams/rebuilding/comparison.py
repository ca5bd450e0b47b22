"""Two generations held against each other: does the one hold what the other holds?

Before this: `rebuild.py` waited until the one had read as far as the other. After this: a promotion, or a refusal that
names the documents. Read only; live changes go on meanwhile, so what differs is looked at again before it counts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from weaviate.client import WeaviateClient

from schemas.index.contract import Generation
from schemas.index.manifest import BARRIER_PREFIX, Manifest, barrier_document, live
from schemas.records import Position
from streams.adapters.weaviate_index import WeaviateIndex

_PAGE = 500
_AGAIN_S = 0.5
_SHOWN = 20


@dataclass(frozen=True)
class Version:
    """A document's newest version: where it stands, whether readers see it, and what its chunks are."""

    position: Position
    visible: bool
    chunks: bytes


@dataclass
class Comparison:
    """Counts of documents that readers see: of the known generation (documents) and of the other (documents_there).

    only_there: of those that the other alone shows (the known one is incomplete). differing: visible documents that
    are missing, older, or of other chunks; differences names some of them.
    """

    documents: int = 0
    documents_there: int = 0
    only_there: int = 0
    differing: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """True if nothing that readers see now would be lost or go back."""
        return self.differing == 0

    def differs(self, document: str, why: str) -> None:
        """Count a document that differs."""
        self.differing += 1
        if len(self.differences) < _SHOWN:
            self.differences.append(f"{document}: {why}")


def compare(
    client: WeaviateClient,
    known: Generation,
    other: Generation,
    *,
    within_s: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Comparison:
    """Does `other` hold every document that readers of `known` see, in the same version or a newer one?

    Of the same version the chunks are compared too, where chunker and filterable fields are the same. What differs is
    looked at again for at most within_s: `other` may be a moment behind.
    """
    found = Comparison()
    same_chunks = known.chunker == other.chunker
    tenants = set(client.collections.use(known.manifests).tenants.get())
    for tenant in sorted(tenants | set(client.collections.use(other.manifests).tenants.get())):
        here = contents(client, known, tenant)
        there = contents(client, other, tenant)
        found.documents += sum(version.visible for version in here.values())
        found.documents_there += sum(version.visible for version in there.values())
        found.only_there += sum(v.visible and document not in here for document, v in there.items())
        open_ones = _open(here, there, same_chunks=same_chunks)
        until = monotonic() + within_s
        index = WeaviateIndex(client, other)
        while open_ones and monotonic() < until:
            sleep(_AGAIN_S)
            there |= _again(index, tenant, open_ones)
            open_ones = _open({document: here[document] for document in open_ones}, there, same_chunks=same_chunks)
        for document, why in open_ones.items():
            found.differs(document, why)
    return found


def visible_documents(client: WeaviateClient, generation: Generation) -> int:
    """How many documents readers of the generation see."""
    tenants = client.collections.use(generation.manifests).tenants.get()
    return sum(v.visible for tenant in tenants for v in contents(client, generation, tenant).values())


def contents(client: WeaviateClient, generation: Generation, tenant: str) -> dict[str, Version]:
    """The newest version of every document of a tenant, by key; about 300 bytes of memory each."""
    manifests = client.collections.use(generation.manifests)
    if tenant not in manifests.tenants.get():
        return {}
    pages = manifests.with_tenant(tenant).iterator(return_properties=["body"], cache_size=_PAGE)
    return _versions(Manifest.from_json(str(item.properties["body"])) for item in pages)


def _versions(manifests: Iterable[Manifest]) -> dict[str, Version]:
    kept: dict[str, tuple[Manifest, bytes]] = {}
    for manifest in manifests:
        before = kept.get(manifest.document)
        if before is None or manifest.position.newer_than(before[0].position):
            hashes = "\n".join(span.object_hash for span in manifest.spans)
            bare = Manifest(manifest.document, manifest.position, manifest.origin, grave=manifest.grave)
            kept[manifest.document] = (bare, hashlib.sha256(hashes.encode()).digest())
    barriers = {document: item[0] for document, item in kept.items() if document.startswith(BARRIER_PREFIX)}
    return {
        document: Version(bare.position, live(bare, barriers.get(barrier_document(bare.origin.source))), chunks)
        for document, (bare, chunks) in kept.items()
        if document not in barriers
    }


def _open(here: Mapping[str, Version], there: Mapping[str, Version], *, same_chunks: bool) -> dict[str, str]:
    """The documents that differ, and how."""
    found = {}
    for document, version in here.items():
        why = _difference(version, there.get(document), same_chunks=same_chunks)
        if why is not None:
            found[document] = why
    return found


def _difference(here: Version, there: Version | None, *, same_chunks: bool) -> str | None:
    if there is None:
        return "is missing" if here.visible else None
    if there.position.newer_than(here.position):
        return None
    if there.position.version != here.position.version:
        ended_in_both = not here.visible and not there.visible
        return None if ended_in_both else f"is at {there.position.version}, not at {here.position.version}"
    if here.visible != there.visible:
        return "is shown in one of the two only"
    if same_chunks and here.visible and here.chunks != there.chunks:
        return "has other chunks"
    return None


def _again(index: WeaviateIndex, tenant: str, documents: Collection[str]) -> dict[str, Version]:
    stored, _ = index.manifests(tenant, documents, [])
    sources = {manifest.origin.source for manifest in stored}
    _, barriers = index.manifests(tenant, [], sources)
    return _versions([*stored, *barriers.values()])
