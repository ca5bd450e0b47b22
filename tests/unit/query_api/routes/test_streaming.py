"""`POST /v1/query` as a stream: the same answer as the JSON one, in pieces, with an end in any case."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from io import StringIO
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent

from query_api.answering.answers import Answer, AnswerLater, Citation
from query_api.retrieval.visibility import Hit
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex
from tests.unit.query_api.fakes import Parts, app_around
from tests.unit.query_api.routes.test_queries import TEXT, lines, with_one_hit

STREAM = {"Accept": "text/event-stream"}
WORDS = ["Forty ", "weeks, ", "they say."]


class Writes:
    """Says the words, and then what is left to say: an answer, an error, or nothing."""

    def __init__(self, end: Answer | Exception | None = None, *, hold: asyncio.Event | None = None) -> None:
        self.end = end
        self.hold = hold
        self.closed = asyncio.Event()
        good = Citation(0, TEXT[:8], 0, 8, 0, 5)
        self.written = Answer(
            "".join(WORDS), (good, Citation(0, "no quote", 0, 8, 0, 5)), "m", {"output_tokens": 3}, 0.5
        )

    def identity(self, question: str) -> str:
        return "m"

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        return self.written

    async def stream(self, question: str, hits: Sequence[Hit]) -> AsyncGenerator[str | Answer, None]:
        try:
            for word in WORDS:
                yield word
            if self.hold is not None:
                await self.hold.wait()
            if isinstance(self.end, Exception):
                raise self.end
            yield self.end or self.written
        finally:
            self.closed.set()


async def streamed(parts: Parts, body: dict[str, Any]) -> tuple[list[ServerSentEvent], httpx.Response]:
    answered = await parts.client.post("/v1/query", json=body, headers=STREAM)
    return list(EventSource(answered).iter_sse()), answered


async def test_a_stream_tells_the_hits_the_words_and_last_what_the_json_answer_tells() -> None:
    asked = {"query": "how long is leave?"}

    events, answered = await streamed(with_one_hit(answerer=Writes()), asked)
    whole = (await with_one_hit(answerer=Writes()).client.post("/v1/query", json=asked)).json()

    assert [event.event for event in events] == ["hits", "delta", "delta", "delta", "done"]
    assert [event.id for event in events] == ["1", "2", "3", "4", "5"]
    assert [json.loads(event.data)["text"] for event in events[1:-1]] == WORDS
    done = json.loads(events[-1].data)
    assert done.pop("answer_id") != whole.pop("answer_id"), "each answer can be rated for itself"
    del done["took_ms"], whole["took_ms"]
    assert done == whole
    assert json.loads(events[0].data) == {"hits": whole["hits"]}
    assert len(done["citations"]) == 1, "the one that does not hold is dropped"
    assert done["cost"] == 0.5
    assert answered.headers["Content-Type"].startswith("text/event-stream")
    assert answered.headers["Cache-Control"] == "no-store"
    assert answered.headers["X-Accel-Buffering"] == "no"
    assert answered.headers["X-Request-ID"]


async def test_without_a_model_the_answer_streams_as_well() -> None:
    events, _ = await streamed(with_one_hit(), {"query": "how long is leave?"})

    assert [event.event for event in events] == ["hits", "delta", "done"]
    assert json.loads(events[-1].data)["model"] == "extractive"


async def test_without_hits_no_model_is_asked() -> None:
    events, _ = await streamed(app_around(FakeIndex(), FakeEmbedder(), answerer=Writes()), {"query": "q"})

    assert json.loads(events[-1].data)["model"] == "none"
    assert "".join(json.loads(event.data)["text"] for event in events[1:-1]) == json.loads(events[-1].data)["answer"]


@pytest.mark.parametrize("body", [{"query": " "}, {"query": "q", "limit": 0}, {"query": "q", "min_position": "x"}])
async def test_what_is_wrong_with_the_question_is_told_before_the_stream_begins(body: dict[str, Any]) -> None:
    answered = await with_one_hit().client.post("/v1/query", json=body, headers=STREAM)

    assert answered.status_code == 422
    assert answered.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("error", "kind", "again"),
    [(AnswerLater("the model broke off", 7.0), "unavailable", 7), (ZeroDivisionError("x"), "internal", None)],
)
async def test_a_model_that_breaks_off_ends_the_stream_with_a_problem(
    error: Exception, kind: str, again: int | None, log: StringIO
) -> None:
    events, answered = await streamed(with_one_hit(answerer=Writes(error)), {"query": "how long is leave?"})

    assert [event.event for event in events] == ["hits", "delta", "delta", "delta", "error"]
    problem = json.loads(events[-1].data)
    assert (problem["type"], problem.get("retry_after")) == (f"/problems/{kind}", again)
    assert problem["instance"] == f"urn:request:{answered.headers['X-Request-ID']}"
    assert len(lines(log, "answer_broke_off")) == 1
    assert "how long" not in log.getvalue()


async def test_a_finished_stream_is_counted_and_logged_like_any_answer(log: StringIO) -> None:
    parts = with_one_hit(answerer=Writes())

    await streamed(parts, {"query": "how long is leave?"})

    assert len(lines(log, "query_completed")) == 1
    assert parts.metrics.generation_duration_seconds._sum.get() >= 0
    assert parts.metrics.query_duration_seconds.labels(route="/v1/query")._sum.get() > 0


async def test_a_caller_that_goes_away_stops_the_model() -> None:
    writes = Writes(hold=asyncio.Event())
    parts = with_one_hit(answerer=writes)
    said = asyncio.Event()
    request = parts.client.build_request("POST", "/v1/query", json={"query": "how long is leave?"}, headers=STREAM)
    given = [{"type": "http.request", "body": request.content, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if given:
            return given.pop()
        await said.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if b"they say" in message.get("body", b""):
            said.set()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/query",
        "raw_path": b"/v1/query",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }

    async with asyncio.timeout(10):
        await parts.app(scope, receive, send)  # type: ignore[arg-type]
        await writes.closed.wait()
