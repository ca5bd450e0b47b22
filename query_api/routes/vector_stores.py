"""The shape of OpenAI's vector store search, so that its stock client searches here: a store is a knowledge base.

Before it: the client `openai` (`client.vector_stores.search`). After it: `service.py`. Reference: OpenAI's API,
`POST /v1/vector_stores/{vector_store_id}/search`. What it asks for and we do not do is refused, not ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from query_api.models import SearchRequest
from query_api.retrieval.filters import DEEPEST
from query_api.retrieval.visibility import Hit
from runtime.web.problems import FieldError, Problem

_COMPARISONS = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin")


class RankingOptions(BaseModel):
    """ranker `none`: no model orders the hits anew; any other: if one is configured here."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ranker: Literal["none", "auto", "default-2024-11-15"] | None = None
    score_threshold: float | None = Field(None, ge=0, le=1, description="Hits with a lower score are left out.")


class VectorStoreSearch(BaseModel):
    """A search as OpenAI's client sends it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    query: str | Annotated[list[str], Field(min_length=1, max_length=1)] = Field(
        description="A list holds one: ask several in several requests."
    )
    filters: dict[str, Any] | None = Field(
        None,
        description='`{"type": "eq", "key": "team", "value": "a"}` (ne, gt, gte, lt, lte, in, nin), or '
        '`{"type": "and", "filters": [...]}` (or).',
    )
    max_num_results: int = Field(10, ge=1, le=50)
    ranking_options: RankingOptions | None = None
    rewrite_query: Literal[False] | None = Field(None, description="Queries are not rewritten here.")


class Content(BaseModel):
    """A stretch of text."""

    type: Literal["text"] = "text"
    text: str


class Result(BaseModel):
    """A hit: the document's id, its title, its metadata."""

    file_id: str
    filename: str
    score: float
    attributes: dict[str, str | float | bool]
    content: list[Content]


class ResultsPage(BaseModel):
    """All results: there is no further page."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[Result]
    has_more: bool = False
    next_page: str | None = None


def as_search(store: str, asked: VectorStoreSearch) -> SearchRequest:
    """The same search as ours. Raises Problem 422 for filters of another shape."""
    query = asked.query if isinstance(asked.query, str) else asked.query[0]
    ranker = asked.ranking_options.ranker if asked.ranking_options is not None else None
    return SearchRequest(
        query=query,
        knowledge_bases=[store],
        filters=None if asked.filters is None else _filter(asked.filters, "filters", 1),
        limit=asked.max_num_results,
        rerank=False if ranker == "none" else None,
    )


def as_page(asked: VectorStoreSearch, query: str, hits: tuple[Hit, ...]) -> ResultsPage:
    """What was found, in OpenAI's shape."""
    least = asked.ranking_options.score_threshold if asked.ranking_options is not None else None
    return ResultsPage(
        search_query=[query],
        data=[
            Result(
                file_id=hit.document_id,
                filename=hit.title or hit.document_id,
                score=round(hit.score, 6),
                attributes={name: _attribute(value) for name, value in hit.metadata.items() if value is not None},
                content=[Content(text=hit.text)],
            )
            for hit in hits
            if least is None or hit.score >= least
        ],
    )


def _filter(raw: object, path: str, depth: int) -> dict[str, Any]:
    """Our filter of OpenAI's; keys and values are checked where all filters are."""
    if not isinstance(raw, Mapping):
        raise _wrong(path, "is not an object", 'write {"type": "eq", "key": ..., "value": ...}')
    if depth > DEEPEST:
        raise _wrong(path, f"is nested more than {DEEPEST} deep", "write it flatter")
    kind = raw.get("type")
    if kind in ("and", "or"):
        parts = raw.get("filters")
        if set(raw) != {"type", "filters"} or not isinstance(parts, list) or not parts:
            raise _wrong(path, "is no list of filters", f'write {{"type": "{kind}", "filters": [...]}}')
        return {kind: [_filter(part, f"{path}.filters.{at}", depth + 1) for at, part in enumerate(parts)]}
    if kind not in _COMPARISONS:
        raise _wrong(f"{path}.type", "is no comparison", f"use one of {', '.join((*_COMPARISONS, 'and', 'or'))}")
    key = raw.get("key")
    if set(raw) != {"type", "key", "value"} or not isinstance(key, str) or key in ("and", "or"):
        raise _wrong(path, "is no comparison", f'write {{"type": "{kind}", "key": ..., "value": ...}}')
    return {key: {kind: raw["value"]}}


def _attribute(value: str | float | bool | list[str]) -> str | float | bool:
    return ", ".join(value) if isinstance(value, list) else value


def _wrong(field: str, message: str, fix: str) -> Problem:
    return Problem("validation-failed", f"{field} {message}: {fix}.", errors=[FieldError(field, message, fix)])
