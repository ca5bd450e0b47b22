"""The query API's routes: JSON in, JSON out. Before it: `app.py`. After it: `service.py`, `lookups.py`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from query_api.answering.answers import Answer
from query_api.errors import problem_of
from query_api.models import (
    ChunkBody,
    DocumentResponse,
    FreshnessBody,
    QueryResponse,
    SearchRequest,
    SearchResponse,
    StatsResponse,
)
from query_api.retrieval.lookups import Lookups
from query_api.routes.bodies import hit_bodies, opened, query_response, search_response
from query_api.routes.streaming import told
from query_api.service import QueryService, Searched
from runtime.access import Principal
from runtime.privacy.sealing import Seals
from runtime.progress import Progress
from runtime.web.event_stream import EventStream, wants_events
from runtime.web.identity import require, still
from runtime.web.known_first import KnownFirst
from schemas.records import split_document_key

Reader = Annotated[Principal, Depends(require("query"))]
KnowledgeBaseName = Annotated[str | None, Query(max_length=100, description="None: found among all in reach.")]
Offset = Annotated[int, Query(ge=0, description="First chunk.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Most chunks.")]

READS = frozenset({"/v1/search", "/v1/query"})
"""They change nothing, though they are POSTed: while the store that counts requests is away they go on."""


def router(service: QueryService, lookups: Lookups, progress: Progress, seals: Seals) -> APIRouter:
    """`/v1/search`, `/v1/query`, `/v1/documents/{id}`, `/v1/stats`."""
    routes = APIRouter(prefix="/v1", tags=["query"], route_class=KnownFirst)

    @routes.post("/search", summary="Hits for a query", response_model_exclude_unset=True)
    async def search(body: SearchRequest, caller: Reader, request: Request) -> SearchResponse:
        searched = opened(await service.search(caller, body, still(request, "query")), seals)
        return search_response(body, searched, progress.newest(caller.tenant))

    @routes.post(
        "/query",
        summary="An answer with citations, whole or streamed",
        response_model=QueryResponse,
        response_model_exclude_unset=True,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    async def query(body: SearchRequest, caller: Reader, request: Request) -> QueryResponse | EventStream:
        """With `Accept: text/event-stream` the events `hits`, `delta`, ..., last `done` (as the JSON) or `error`."""

        def whole(searched: Searched, answer: Answer, took_s: float) -> QueryResponse:
            return query_response(body, opened(searched, seals), answer, took_s, progress.newest(caller.tenant))

        if not wants_events(request.headers.get("Accept", "")):
            return whole(*await service.answer(caller, body, still(request, "query")))
        searched, parts = await service.stream(caller, body, still(request, "query"))
        hits = [hit.model_dump(exclude_unset=True) for hit in hit_bodies(opened(searched, seals).found.hits, body)]
        return EventStream(
            told(hits, parts, lambda answer, took_s: whole(searched, answer, took_s).model_dump(exclude_unset=True)),
            request_id=request.state.request_id,
            problem_of=problem_of,
        )

    @routes.get("/documents/{document_id:path}", summary="What is indexed of a document")
    async def document(
        document_id: Annotated[str, Path(min_length=1, max_length=2000)],
        caller: Reader,
        knowledge_base: KnowledgeBaseName = None,
        offset: Offset = 0,
        limit: Limit = 100,
    ) -> DocumentResponse:
        rights = service.rights(caller, None if knowledge_base is None else [knowledge_base])
        found = await lookups.document(rights, document_id, offset=offset, limit=limit)
        manifest = found.manifest
        return DocumentResponse(
            document_id=document_id,
            knowledge_base=split_document_key(manifest.document)[1],
            version=manifest.position.version,
            title=manifest.title,
            metadata=seals.opened(manifest.document, manifest.metadata),
            access=None if manifest.access is None else sorted(manifest.access),
            source=manifest.origin.source,
            origin={
                "kind": manifest.origin.kind,
                "ref": manifest.origin.ref,
                "position": manifest.origin.receipt_position,
            },
            indexed_ms=manifest.indexed_ms,
            chunk_count=len(manifest.spans),
            chunks=[
                ChunkBody(
                    chunk_id=span.chunk_id,
                    text=found.texts.get(span.chunk_id),
                    start=span.start,
                    end=span.end,
                    heading=list(span.heading),
                    page=span.page,
                )
                for span in found.spans
            ],
            generation=found.generation,
        )

    @routes.get("/stats", summary="What is indexed, and how fresh it is")
    async def stats(caller: Reader, knowledge_base: KnowledgeBaseName = None) -> StatsResponse:
        rights = service.rights(caller, None if knowledge_base is None else [knowledge_base])
        found = await lookups.stats(rights)
        p50, p95, samples = found.freshness
        return StatsResponse(
            documents=found.documents,
            total_documents=found.documents,
            index_type="hybrid",
            chunks=found.chunks,
            knowledge_bases=sorted(rights.bases),
            generation=found.live.generation.name,
            model=found.live.generation.model,
            dimension=found.live.generation.dimension,
            freshness=FreshnessBody(p50=p50, p95=p95, samples=samples),
            position=found.position,
            timestamp=datetime.fromtimestamp(found.at_ms / 1000, UTC),
        )

    return routes
