"""IndexStore in memory, with the promises of the real one; it can be told to fail at any call."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from schemas.index.manifest import BARRIER_PREFIX, Manifest, barrier_document
from schemas.records import Position
from streams.core.versions import NewChunk, StoredChunk
from streams.ports import PermanentFailure, Vector


@dataclass
class Stored:
    """A chunk object as the fake keeps it."""

    chunk: NewChunk
    vector: Vector
    retired: bool = False


@dataclass
class FakeIndex:
    """One tenant's collections.

    before_call is called with each method's name, after_effect after each object that was written or marked (as in
    Weaviate, a call that writes many is not atomic); both may raise.
    """

    chunks: dict[str, Stored] = field(default_factory=dict)
    stored: dict[str, Manifest] = field(default_factory=dict)
    superseded: set[str] = field(default_factory=set)
    before_call: Callable[[str], None] = lambda _: None
    after_effect: Callable[[str, str], None] = lambda _, __: None
    refuse_text: str | None = None
    page: int = 5_000
    of_document: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def manifests(
        self, tenant: str, documents: Collection[str], sources: Collection[str]
    ) -> tuple[list[Manifest], dict[str, Manifest]]:
        self.before_call("manifests")
        wanted = set(documents)
        names = {barrier_document(source): source for source in sources}
        found: list[Manifest] = []
        barriers: dict[str, Manifest] = {}
        for identifier, manifest in self.stored.items():
            if identifier in self.superseded:
                continue
            if manifest.document in wanted:
                found.append(manifest)
            elif manifest.document in names:
                source = names[manifest.document]
                if source not in barriers or manifest.position.newer_than(barriers[source].position):
                    barriers[source] = manifest
        return found, barriers

    def unretired(self, tenant: str, documents: Collection[str]) -> list[StoredChunk]:
        self.before_call("unretired")
        return [
            StoredChunk(identifier, document, self.chunks[identifier].chunk.introduced)
            for document in documents
            for identifier in self.of_document[document]
            if not self.chunks[identifier].retired
        ]

    def retired(self, tenant: str, chunk_ids: Collection[str]) -> set[str]:
        self.before_call("retired")
        return {identifier for identifier in chunk_ids if identifier in self.chunks and self.chunks[identifier].retired}

    def vectors(self, tenant: str, text_hashes: Collection[str]) -> dict[str, Vector]:
        self.before_call("vectors")
        wanted = set(text_hashes)
        return {i.chunk.text_hash: i.vector for i in self.chunks.values() if i.chunk.text_hash in wanted}

    def write_chunks(self, tenant: str, chunks: Sequence[NewChunk], vectors: Mapping[str, Vector]) -> None:
        self.before_call("write_chunks")
        for chunk in chunks:
            if self.refuse_text is not None and self.refuse_text in chunk.text:
                raise PermanentFailure("index_refused", chunk.id)
            self.chunks[chunk.id] = Stored(chunk, vectors[chunk.text_hash])
            self.of_document[chunk.document].add(chunk.id)
            self.after_effect("chunk", chunk.document)

    def write_manifests(self, tenant: str, manifests: Sequence[Manifest]) -> None:
        self.before_call("write_manifests")
        for manifest in manifests:
            self.stored[manifest.id] = manifest
            self.superseded.discard(manifest.id)
            self.after_effect("manifest", manifest.document)

    def retire(
        self,
        tenant: str,
        chunk_ids: Collection[str],
        manifests: Collection[Manifest],
        at_ms: int,
        *,
        anew: bool = False,
    ) -> None:
        self.before_call("retire")
        for identifier in sorted(chunk_ids):
            if identifier in self.chunks:
                self.chunks[identifier].retired = True
                self.after_effect("retired", self.chunks[identifier].chunk.document)
        for manifest in manifests:
            if manifest.id in self.stored:
                self.superseded.add(manifest.id)
                self.after_effect("superseded", manifest.document)

    def revive(self, tenant: str, chunk_ids: Collection[str], *, anew: bool = False) -> None:
        self.before_call("revive")
        for identifier in sorted(chunk_ids):
            if identifier in self.chunks:
                self.chunks[identifier].retired = False
                self.after_effect("revived", self.chunks[identifier].chunk.document)

    def documents(self, tenant: str) -> Iterable[tuple[str, str]]:
        self.before_call("documents")
        held = [(item.chunk.document, item.chunk.source) for item in self.chunks.values() if not item.retired]
        told = [(m.document, m.origin.source) for i, m in self.stored.items() if i not in self.superseded]
        return [(document, source) for document, source in told + held if not document.startswith(BARRIER_PREFIX)]

    def unfound(self, tenant: str) -> Iterable[Manifest]:
        self.before_call("unfound")
        return ()

    def documents_before(self, tenant: str, source: str, barrier: Position) -> Iterable[Manifest]:
        seen: set[str] = set()
        while True:
            self.before_call("documents_before")
            fresh = [
                (identifier, manifest)
                for identifier, manifest in self.stored.items()
                if manifest.origin.source == source
                and not manifest.grave
                and identifier not in self.superseded
                and identifier not in seen
            ][: self.page]
            if not fresh:
                return
            for identifier, manifest in fresh:
                seen.add(identifier)
                if manifest.position.stream == barrier.stream and barrier.newer_than(manifest.position):
                    yield manifest
