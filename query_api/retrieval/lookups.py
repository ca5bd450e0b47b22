"""What is indexed: one document with its chunks, and numbers. Before it: the routes. After it: `ports.Index`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from query_api.retrieval.ports import Criteria, Index, Live
from query_api.retrieval.rights import Rights
from query_api.retrieval.visibility import readable
from runtime.progress import Progress
from runtime.web.problems import Problem
from schemas.index.manifest import Manifest, Span, barrier_document, newest

_FRESH_MS = 300_000


@dataclass(frozen=True)
class DocumentFound:
    """A document's newest version, and a page of its chunks with their texts."""

    manifest: Manifest
    spans: tuple[Span, ...]
    texts: dict[str, str]
    generation: str


@dataclass(frozen=True)
class Stats:
    """Numbers of the rights' knowledge bases; freshness as (p50, p95, samples)."""

    documents: int | None
    chunks: int
    live: Live
    freshness: tuple[float | None, float | None, int]
    position: str | None
    at_ms: int


class Lookups:
    """Answers without a search. The ports' errors pass."""

    def __init__(self, index: Index, progress: Progress, now_ms: Callable[[], int]) -> None:
        self._index = index
        self._progress = progress
        self._now_ms = now_ms

    async def document(self, rights: Rights, document_id: str, *, offset: int, limit: int) -> DocumentFound:
        """The document in the rights' knowledge bases. Raises Problem 404; 409 if more than one of them has it."""
        live = await self._index.live()
        found = newest(await self._index.manifests(live, rights.tenant, rights.documents(document_id)))
        barriers = {barrier_document(manifest.origin.source) for manifest in found.values()}
        if barriers:
            found |= newest(await self._index.manifests(live, rights.tenant, barriers))
        seen = [
            manifest for key, manifest in found.items() if key not in barriers and readable(manifest, found, rights)
        ]
        if not seen:
            raise Problem("document-not-found", f"No document {document_id!r} is indexed that this key may read.")
        if len(seen) > 1:
            bases = ", ".join(sorted(manifest.document.split("/", 2)[1] for manifest in seen))
            raise Problem(
                "conflict", f"Several knowledge bases hold {document_id!r}: add knowledge_base=, one of {bases}."
            )
        (manifest,) = seen
        spans = manifest.spans[offset : offset + limit]
        texts = await self._index.texts(live, rights.tenant, list(dict.fromkeys(span.chunk_id for span in spans)))
        return DocumentFound(manifest, spans, texts, live.generation.name)

    async def stats(self, rights: Rights) -> Stats:
        """Counts, generation, freshness. documents is told to admins only: counts pass by the access lists."""
        live = await self._index.live()
        documents, chunks = await self._index.count(live, Criteria(rights)) if rights.bases else (0, 0)
        now_ms = self._now_ms()
        return Stats(
            documents=documents if rights.readers is None else None,
            chunks=chunks,
            live=live,
            freshness=self._progress.freshness(rights.tenant, now_ms - _FRESH_MS),
            position=self._progress.newest(rights.tenant),
            at_ms=now_ms,
        )
