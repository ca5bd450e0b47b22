"""IndexStore in memory, with the promises of the real one; it can be told to fail at any call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from schemas.index.manifest import Manifest, barrier_document, newest
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
    """One tenant's collections. before_call is called with each method's name and may raise."""

    chunks: dict[str, Stored] = field(default_factory=dict)
    stored: dict[str, Manifest] = field(default_factory=dict)
    superseded: set[str] = field(default_factory=set)
    before_call: Callable[[str], None] = lambda _: None
    refuse_text: str | None = None

    def manifests(
        self, tenant: str, documents: Collection[str], sources: Collection[str]
    ) -> tuple[list[Manifest], dict[str, Manifest]]:
        self.before_call("manifests")
        names = {barrier_document(source): source for source in sources}
        open_ones = [m for m in self.stored.values() if m.id not in self.superseded]
        barriers = newest(m for m in open_ones if m.document in names)
        return (
            [m for m in open_ones if m.document in set(documents)],
            {names[document]: manifest for document, manifest in barriers.items()},
        )

    def unretired(self, tenant: str, introduced: Mapping[str, Collection[str]]) -> list[StoredChunk]:
        self.before_call("unretired")
        return [
            StoredChunk(identifier, item.chunk.document, item.chunk.introduced)
            for identifier, item in self.chunks.items()
            if item.chunk.introduced in introduced.get(item.chunk.document, ()) and not item.retired
        ]

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

    def write_manifests(self, tenant: str, manifests: Sequence[Manifest]) -> None:
        self.before_call("write_manifests")
        for manifest in manifests:
            self.stored[manifest.id] = replace(manifest)
            self.superseded.discard(manifest.id)

    def retire(self, tenant: str, chunk_ids: Collection[str], manifests: Collection[Manifest], at_ms: int) -> None:
        self.before_call("retire")
        for identifier in chunk_ids:
            if identifier in self.chunks:
                self.chunks[identifier].retired = True
        self.superseded |= {manifest.id for manifest in manifests}

    def revive(self, tenant: str, chunk_ids: Collection[str]) -> None:
        self.before_call("revive")
        for identifier in chunk_ids:
            if identifier in self.chunks:
                self.chunks[identifier].retired = False

    def documents_before(self, tenant: str, source: str, barrier: Position) -> Iterable[Manifest]:
        self.before_call("documents_before")
        return [
            m
            for m in list(self.stored.values())
            if m.origin.source == source
            and not m.grave
            and m.id not in self.superseded
            and m.position.stream == barrier.stream
            and barrier.newer_than(m.position)
        ]
