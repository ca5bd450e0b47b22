"""Every request: its id, security headers, a count by route, one line of log. Before it: uvicorn; after it: routes.

The log holds the path but never the query string or a body: both may hold what people look for.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import MutableMapping, Sequence
from typing import Any

import structlog
from prometheus_client import Counter
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.web.browsers import add_headers, with_origins
from runtime.web.problems import Problem, response_of, unexpected

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")
_QUIET = ("/health", "/ready", "/metrics")
"""Probes ask every second or two: their lines are logged at debug."""


class RequestMiddleware:
    """Wraps a whole app (`app.add_middleware(RequestMiddleware, counter=..., max_body_bytes=...)`).

    counter has the labels method, route, status. max_body_bytes: a longer body is answered 413 before any route
    sees it (the body is held in memory up to that size), one that takes longer than body_s (seconds) 408; None leaves
    bodies to the routes. `request.state.request_id` is set for the routes, and `request_id` in the log's context.
    What is put into `request.state.answer_headers` goes out with any answer. origins: the web pages that may call.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        counter: Counter,
        max_body_bytes: int | None = None,
        body_s: float = 20.0,
        origins: Sequence[str] = (),
    ) -> None:
        self._app = app
        # Around the errors too: a page that may call the API is to see its problems.
        self._answered = with_origins(self._handled, origins)
        self._counter = counter
        self._max_body_bytes = max_body_bytes
        self._body_s = body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        started = time.monotonic()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                add_headers(message, request_id, scope["state"].get("answer_headers", {}))
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._answered(scope, receive, answer)
            finally:
                self._record(scope, status, time.monotonic() - started)

    async def _handled(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app, its body bounded; every error that is left becomes a problem."""
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        request_id: str = scope["state"]["request_id"]
        try:
            await self._app(scope, await self._bounded(scope, receive), answer)
        except Problem as problem:
            await response_of(problem, request_id)(scope, receive, answer)
        except Exception as error:
            told = unexpected(error)
            if begun:  # the answer is under way: all that is left is to break it off
                raise
            await response_of(told, request_id)(scope, receive, answer)

    async def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """The body, read whole, if it is short enough and comes in time. Raises Problem 413, 408."""
        limit = self._max_body_bytes
        if limit is None or scope["method"] in ("GET", "HEAD", "OPTIONS", "DELETE"):
            return receive
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            raise _too_large(limit)
        try:
            async with asyncio.timeout(self._body_s):
                whole = await _read(receive, limit)
        except TimeoutError as error:
            raise Problem("timeout", f"The body took longer than {self._body_s:g} s.", headers=_CLOSE) from error
        body: Message | None = {"type": "http.request", "body": whole, "more_body": False}

        async def replay() -> Message:
            nonlocal body
            first, body = body, None
            return first if first is not None else await receive()

        return replay

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        # A method is the caller's free text too: only known ones become a label.
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._counter.labels(method=method, route=route, status=str(status or 499)).inc()
        log = structlog.get_logger(__name__)
        write = log.debug if route in _QUIET else log.info
        state: MutableMapping[str, Any] = scope.get("state", {})
        write(
            "request",
            method=method,
            path=scope["path"],
            route=route,
            status=status or 499,  # 499: the caller hung up before an answer began
            duration_ms=round(seconds * 1000, 1),
            subject=state.get("subject"),
        )


async def _read(receive: Receive, limit: int) -> bytes:
    parts, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        parts += message.get("body", b"")
        if len(parts) > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
    return bytes(parts)


def _too_large(limit: int) -> Problem:
    return Problem("too-large", f"The body is larger than {limit} bytes.", headers=_CLOSE)


_CLOSE = {"Connection": "close"}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
