"""Answers that come as server-sent events: numbered, kept alive, and always ended by a last event.

Before it: a route, with the events as an async generator. After it: a caller that may go away at any time. FastAPI's
own streaming (`fastapi.sse`) belongs to routes that always stream and ends a broken stream without a word; its format
and its response class are used.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Send

from runtime.web.problems import Problem, unexpected

HEARTBEAT_S = 10.0
"""Proxies cut a connection that is quiet for half a minute or a minute."""

_SEND_S = 30.0
"""A caller that does not take one event in so long is gone."""

LONGEST_S = 600.0
"""Of a whole stream; what fills it has shorter bounds of its own."""

_COME_AGAIN_MS = 1000
"""How long one who follows a resumable stream waits when it broke."""

_AHEAD = 16
"""Events made and not taken yet: then whoever makes them waits."""


@dataclass(frozen=True)
class Event:
    """One event: its name, and its data as JSON. last: no other follows. id: in a resumable stream alone."""

    name: str
    data: str
    last: bool = False
    id: str | None = None


def wants_events(accept: str) -> bool:
    """Whether this `Accept` header asks for a stream, at least as much as for JSON; `*/*` does not."""
    weights = {}
    for part in accept.split(","):
        media, *parameters = (item.strip().lower() for item in part.split(";"))
        weights[media] = next((_weight(item[2:]) for item in parameters if item.startswith("q=")), 1.0)
    events = weights.get("text/event-stream", 0.0)
    return events > 0 and events >= weights.get("application/json", 0.0)


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


class EventStream(EventSourceResponse):
    """Sends the events with ids 1, 2, 3, ..., a comment every ten seconds of silence, and a last event in any case.

    What the generator raises becomes the event `error`, with a problem document: problem_of says which problem; None:
    one that nobody expected. A generator that ends without a last event ends like this, too. When the caller goes away,
    or takes no event for 30 s, the generator is closed. The whole is bounded by longest_s.

    resumable: the caller is told to come again with the id of the last event it had. So ids are the events' own, and a
    generator that ends just ends the stream.
    """

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        *,
        request_id: str,
        problem_of: Callable[[Exception], Problem | None],
        heartbeat_s: float = HEARTBEAT_S,
        longest_s: float = LONGEST_S,
        resumable: bool = False,
    ) -> None:
        self._frames = self._framed()
        super().__init__(self._frames, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._events = events
        self._instance = f"urn:request:{request_id}"
        self._problem_of = problem_of
        self._heartbeat_s = heartbeat_s
        self._longest_s = longest_s
        self._resumable = resumable

    async def stream_response(self, send: Send) -> None:
        """As StreamingResponse, with bounded waits for the caller."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            async with aclosing(self._frames) as frames:
                async for frame in frames:
                    async with asyncio.timeout(_SEND_S):
                        await send({"type": "http.response.body", "body": frame, "more_body": True})
        except TimeoutError:
            return  # without its end: the server closes the connection
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _framed(self) -> AsyncGenerator[bytes, None]:
        ready: asyncio.Queue[Event | None] = asyncio.Queue(_AHEAD)
        # A task of its own: a heartbeat must not interrupt the generator in the middle of its work.
        filling = asyncio.create_task(self._fill(ready))
        number = 0
        try:
            if self._resumable:
                yield format_sse_event(retry=_COME_AGAIN_MS)
            while True:
                try:
                    async with asyncio.timeout(self._heartbeat_s):
                        event = await ready.get()
                except TimeoutError:
                    yield KEEPALIVE_COMMENT
                    continue
                if event is None:
                    return
                number += 1
                own = event.id if self._resumable else str(number)
                yield format_sse_event(data_str=event.data, event=event.name, id=own)
                if event.last:
                    return
        finally:
            filling.cancel()
            await asyncio.wait([filling])

    async def _fill(self, ready: asyncio.Queue[Event | None]) -> None:
        problem: Problem | None
        try:
            async with asyncio.timeout(self._longest_s), aclosing(self._events):
                async for event in self._events:
                    await ready.put(event)
                    if event.last:
                        return
            unended = RuntimeError("a stream of events ended without a last one")
            problem = None if self._resumable else unexpected(unended)
        except TimeoutError:
            problem = Problem("unavailable", "The answer took too long.", headers={"Retry-After": "5"})
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller is told that the stream is over
            problem = self._problem_of(error) or unexpected(error)
        await ready.put(Event("error", dumped(problem.document(self._instance)), last=True) if problem else None)


def dumped(data: Mapping[str, Any]) -> str:
    """JSON for an event."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))
