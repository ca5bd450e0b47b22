"""What was found and answered, as JSON bodies. Before it: `service.py`. After it: `queries.py`, `further.py`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from query_api.answering.answers import Answer
from query_api.models import (
    CitationBody,
    HitBody,
    NeighbourBody,
    NeighboursBody,
    QueryResponse,
    SearchRequest,
    SearchResponse,
)
from query_api.retrieval.visibility import Hit, Neighbour
from query_api.service import Searched
from runtime.privacy.sealing import Seals
from runtime.web import audit
from schemas.records import document_key


def opened(searched: Searched, seals: Seals) -> Searched:
    """The same with the hits' sealed metadata in clear. Here and not earlier, so that no model and no cache gets it."""

    def clear(hit: Hit) -> Hit:
        document = document_key(searched.rights.tenant, hit.knowledge_base, hit.document_id)
        return replace(hit, metadata=seals.opened(document, hit.metadata))

    return replace(searched, found=replace(searched.found, hits=tuple(map(clear, searched.found.hits))))


def search_response(asked: SearchRequest, searched: Searched, position: str | None) -> SearchResponse:
    """A search's hits; position: the caller's write that ended last."""
    return SearchResponse(
        hits=hit_bodies(searched.found.hits, asked),
        position=position,
        generation=searched.found.generation,
        took_ms=_ms(searched.took_s),
        degraded=list(searched.found.degraded),
    )


def query_response(
    asked: SearchRequest, searched: Searched, answer: Answer, took_s: float, position: str | None
) -> QueryResponse:
    """An answer under an id of its own, which the audit names beside the documents: feedback refers to it."""
    answer_id = str(uuid.uuid4())
    audit.note(answers=[answer_id])
    return QueryResponse(
        answer_id=answer_id,
        answer=answer.text,
        citations=_citations(answer, searched.found.hits),
        hits=hit_bodies(searched.found.hits, asked),
        model=answer.model,
        cached=answer.cached,
        usage=dict(answer.usage),
        cost=answer.cost,
        position=position,
        generation=searched.found.generation,
        took_ms=_ms(took_s),
        degraded=[*searched.found.degraded, *answer.degraded],
    )


def hit_bodies(hits: Sequence[Hit], asked: SearchRequest) -> list[HitBody]:
    """The hits, with what was asked for of each."""
    return [_hit(hit, asked) for hit in hits]


def _hit(hit: Hit, asked: SearchRequest) -> HitBody:
    # exclude_unset leaves these out of the JSON unless they were asked for.
    more: dict[str, Any] = {}
    if asked.explain:
        more["explain"] = dict(hit.parts)
    if asked.neighbours:
        more["neighbours"] = NeighboursBody(before=_beside(hit.before), after=_beside(hit.after))
    return HitBody(
        document_id=hit.document_id,
        knowledge_base=hit.knowledge_base,
        chunk_id=hit.chunk_id,
        text=hit.text,
        title=hit.title,
        score=round(hit.score, 6),
        start=hit.start,
        end=hit.end,
        heading=list(hit.heading),
        page=hit.page,
        metadata=dict(hit.metadata),
        source=hit.source,
        version=hit.version,
        **more,
    )


def _beside(neighbours: Sequence[Neighbour]) -> list[NeighbourBody]:
    return [
        NeighbourBody(
            chunk_id=neighbour.chunk_id,
            text=neighbour.text,
            start=neighbour.start,
            end=neighbour.end,
            heading=list(neighbour.heading),
            page=neighbour.page,
        )
        for neighbour in neighbours
    ]


def _citations(answer: Answer, hits: Sequence[Hit]) -> list[CitationBody]:
    return [
        CitationBody(
            hit=citation.hit,
            document_id=hits[citation.hit].document_id,
            knowledge_base=hits[citation.hit].knowledge_base,
            version=hits[citation.hit].version,
            chunk_id=hits[citation.hit].chunk_id,
            quote=citation.quote,
            start=citation.start,
            end=citation.end,
            answer_start=citation.answer_start,
            answer_end=citation.answer_end,
        )
        for citation in answer.citations
    ]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
