"""Routes beside search and answer: many questions at once, feedback, and OpenAI's vector store search.

Before it: `app.py`. After it: `batch.py`, `feedback.py`, `vector_stores.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request

from query_api.models import QueryResponse, SearchRequest
from query_api.routes.batch import BatchRequest, BatchResponse, answered
from query_api.routes.bodies import opened, query_response
from query_api.routes.feedback import FeedbackRequest, FeedbackResponse, Ratings
from query_api.routes.vector_stores import ResultsPage, VectorStoreSearch, as_page, as_search
from query_api.service import QueryService
from runtime.access import Principal
from runtime.privacy.sealing import Seals
from runtime.progress import Progress
from runtime.web import limits
from runtime.web.identity import require, still
from runtime.web.known_first import KnownFirst

Reader = Annotated[Principal, Depends(require("query"))]
Store = Annotated[str, Path(min_length=1, max_length=100, description="A knowledge base.")]

READS = frozenset({"/v1/query/batch", "/v1/vector_stores/{vector_store_id}/search"})
"""As in `queries.py`."""


def router(
    service: QueryService, progress: Progress, ratings: Ratings, now_ms: Callable[[], int], seals: Seals
) -> APIRouter:
    """`/v1/query/batch`, `/v1/feedback`, `/v1/vector_stores/{id}/search`."""
    routes = APIRouter(prefix="/v1", tags=["query"], route_class=KnownFirst)

    @routes.post("/query/batch", summary="Many questions, one failing alone", response_model_exclude_unset=True)
    async def batch(body: BatchRequest, caller: Reader, request: Request) -> BatchResponse:
        """Answers in the questions' order. Each question counts against the caller's rate."""

        async def one(asked: SearchRequest) -> QueryResponse:
            searched, answer, took_s = await service.answer(caller, asked, still(request, "query"))
            return query_response(asked, opened(searched, seals), answer, took_s, progress.newest(caller.tenant))

        results = await answered(
            body.queries, one, count=lambda: limits.again(request), request_id=request.state.request_id
        )
        return BatchResponse(results=results)

    @routes.post("/feedback", status_code=202, summary="Rate an answer")
    async def feedback(body: FeedbackRequest, caller: Reader) -> FeedbackResponse:
        """Answers once the rating is durable."""
        return await ratings.take(caller, body, now_ms())

    @routes.post("/vector_stores/{vector_store_id}/search", summary="Search as OpenAI's client does")
    async def vector_store(
        vector_store_id: Store, body: VectorStoreSearch, caller: Reader, request: Request
    ) -> ResultsPage:
        """`client.vector_stores.search(knowledge_base, query=...)` with the stock client, pointed at `/v1`."""
        asked = as_search(vector_store_id, body)
        searched = opened(await service.search(caller, asked, still(request, "query")), seals)
        return as_page(body, asked.query, searched.found.hits)

    return routes
