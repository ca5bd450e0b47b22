"""Streams of events: numbered, kept alive, ended in any case, and given up when nobody listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from httpx_sse import EventSource, ServerSentEvent

from runtime.web import event_stream
from runtime.web.event_stream import Event, EventStream, wants_events
from runtime.web.problems import Problem

Source = Callable[[], AsyncGenerator[Event, None]]


def known(error: Exception) -> Problem | None:
    return Problem("unavailable", f"{error}.") if isinstance(error, LookupError) else None


def app_of(source: Source, **options: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def follow(request: Request) -> EventStream:
        return EventStream(source(), request_id="r-1", problem_of=known, **options)

    return app


async def heard(source: Source, **options: Any) -> tuple[list[ServerSentEvent], str, httpx.Headers]:
    transport = httpx.ASGITransport(app=app_of(source, **options))
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        answered = await client.get("/")
    return list(EventSource(answered).iter_sse()), answered.text, answered.headers


async def test_events_are_numbered_and_nothing_may_keep_them() -> None:
    async def source() -> AsyncGenerator[Event, None]:
        yield Event("delta", '{"text":"a\u2028b"}')
        yield Event("done", "{}", last=True)
        raise AssertionError("nobody listens any more")

    events, _, headers = await heard(source)

    assert [(event.event, event.id) for event in events] == [("delta", "1"), ("done", "2")]
    assert json.loads(events[0].data) == {"text": "a\u2028b"}
    assert headers["Content-Type"].startswith("text/event-stream")
    assert (headers["Cache-Control"], headers["X-Accel-Buffering"]) == ("no-store", "no")


async def test_silence_is_filled_with_comments_and_interrupts_nobody() -> None:
    go_on = asyncio.Event()

    async def source() -> AsyncGenerator[Event, None]:
        yield Event("delta", "1")
        await go_on.wait()
        yield Event("done", "2", last=True)

    asyncio.get_running_loop().call_later(0.3, go_on.set)
    events, text, _ = await heard(source, heartbeat_s=0.05)

    # (httpx-sse takes a comment behind an id for an event without data.)
    assert [event.event for event in events if event.data] == ["delta", "done"]
    assert 2 <= text.count("\n: ping\n") + text.startswith(": ping\n") <= 10


@pytest.mark.parametrize(
    ("error", "kind"), [(LookupError("the model is away"), "unavailable"), (ValueError("secret"), "internal")]
)
async def test_an_error_is_the_last_event_with_a_problem_document(error: Exception, kind: str) -> None:
    async def source() -> AsyncGenerator[Event, None]:
        yield Event("delta", "1")
        raise error

    events, text, _ = await heard(source)

    assert [event.event for event in events] == ["delta", "error"]
    problem = json.loads(events[1].data)
    assert (problem["type"], problem["instance"]) == (f"/problems/{kind}", "urn:request:r-1")
    assert {"title", "status", "detail"} <= problem.keys()
    assert "secret" not in text


async def test_a_source_that_just_ends_is_an_error_too() -> None:
    async def source() -> AsyncGenerator[Event, None]:
        yield Event("delta", "1")

    assert [event.event for event in (await heard(source))[0]] == ["delta", "error"]


async def test_a_resumable_source_has_its_own_ids_and_just_ends() -> None:
    async def source() -> AsyncGenerator[Event, None]:
        yield Event("parsed", "1", id="7")
        yield Event("late", "2")

    _, text, _ = await heard(source, resumable=True)

    assert text == "retry: 1000\n\nevent: parsed\ndata: 1\nid: 7\n\nevent: late\ndata: 2\n\n"


async def test_the_whole_is_bounded() -> None:
    async def source() -> AsyncGenerator[Event, None]:
        yield Event("delta", "1")
        await asyncio.sleep(60)

    events, _, _ = await heard(source, longest_s=0.1)

    assert json.loads(events[-1].data)["type"] == "/problems/unavailable"


async def driven(
    app: FastAPI, send: Callable[[dict[str, object]], Awaitable[None]], gone: asyncio.Event, spec: str
) -> None:
    """The app as a server drives it; `gone` is the caller's going away."""
    asked = False

    async def receive() -> dict[str, object]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec},
        "http_version": "1.1",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "scheme": "http",
        "root_path": "",
    }
    await app(scope, receive, send)  # type: ignore[arg-type]


async def test_a_caller_that_goes_away_stops_the_source() -> None:
    gone, closed = asyncio.Event(), asyncio.Event()

    async def source() -> AsyncGenerator[Event, None]:
        try:
            while True:
                yield Event("delta", "1")
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    async def send(message: dict[str, object]) -> None:
        if b"delta" in bytes(message.get("body") or b""):  # type: ignore[call-overload]
            gone.set()

    async with asyncio.timeout(5):
        await driven(app_of(source), send, gone, "2.3")
        await closed.wait()


async def test_a_caller_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "_SEND_S", 0.1)
    closed = asyncio.Event()
    made = 0

    async def source() -> AsyncGenerator[Event, None]:
        nonlocal made
        try:
            while True:
                made += 1
                yield Event("delta", "1")
        finally:
            closed.set()

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async with asyncio.timeout(5):
        await driven(app_of(source), send, asyncio.Event(), "2.3")
        await closed.wait()
    assert made < 30, "whoever makes events waits for those who take them"


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        ("text/event-stream, application/json", True),
        ("application/json, text/event-stream;q=0.5", False),
        ("application/json;q=0.5, text/event-stream;q=0.6", True),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=x", False),
        ("*/*", False),
        ("application/json", False),
        ("", False),
    ],
)
def test_the_accept_header_decides(accept: str, streams: bool) -> None:
    assert wants_events(accept) is streams
