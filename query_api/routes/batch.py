"""Many questions in one request: each is answered, or fails, for itself.

Before it: `further.py`. After it: `service.py`. Each counts against the caller's rate as if it came alone; a few
are answered at a time, in the order given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict

from query_api.errors import problem_of
from query_api.models import QueryResponse, SearchRequest
from runtime.web.problem_fields import FieldError, field_errors
from runtime.web.problems import Problem, unexpected

MOST_QUESTIONS = 50
AT_ONCE = 4
"""Of one batch: searches take turns by tenant anyway, and an answering model has limits of its own."""

_ITEM: JsonDict = {
    "items": {
        "anyOf": [
            {"$ref": "#/components/schemas/SearchRequest"},
            {"description": "Whatever is none gets its own 422 among the results."},
        ]
    }
}


class BatchRequest(BaseModel):
    """Questions, each as in `POST /v1/query`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    queries: list[Any] = Field(min_length=1, max_length=MOST_QUESTIONS, json_schema_extra=_ITEM)


class BatchItem(BaseModel):
    """What came of one question: its answer, or the problem document that it would have got alone."""

    status: int
    answer: QueryResponse | None = None
    problem: dict[str, Any] | None = None


class BatchResponse(BaseModel):
    """One for each question, in the questions' order."""

    results: list[BatchItem]


async def answered(
    questions: Sequence[object],
    one: Callable[[SearchRequest], Awaitable[QueryResponse]],
    *,
    count: Callable[[], Awaitable[None]],
    request_id: str,
) -> list[BatchItem]:
    """All questions by `one`. `count` counts one more request of the caller: raises Problem 429 when it is too many.

    The first question is the request itself, and so is counted already.
    """
    free = asyncio.Semaphore(AT_ONCE)

    async def item(number: int, raw: object) -> BatchItem:
        try:
            request = _parsed(raw, number)
            async with free:
                if number:
                    await count()
                return BatchItem(status=200, answer=await one(request))
        except Exception as error:  # noqa: BLE001  # one failing alone is the promise
            problem = problem_of(error) or unexpected(error)
            return BatchItem(status=problem.status, problem=problem.document(f"urn:request:{request_id}#{number}"))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(item(number, raw)) for number, raw in enumerate(questions)]
    return [task.result() for task in tasks]


def _parsed(raw: object, number: int) -> SearchRequest:
    try:
        return SearchRequest.model_validate(raw)
    except ValidationError as error:
        wrong = [
            FieldError(".".join(["queries", str(number), item.field]).rstrip("."), item.message, item.fix)
            for item in field_errors(error.errors(include_url=False, include_input=False))
        ]
        named = ", ".join(sorted({item.field for item in wrong}))
        raise Problem("validation-failed", f"Not valid: {named}.", errors=wrong) from error
