"""Every request: its id, security headers, a count by route, one line of log. Before it: uvicorn; after it: routes.

The log holds the path but never the query string or a body: both may hold what people look for.
"""

from __future__ import annotations

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
    """Wraps a whole app (`app.add_middleware(RequestMiddleware, counter=...)`); bodies are `body_guard.py`'s.

    counter has the labels method, route, status. `request.state.request_id` is set for the routes, and `request_id` in
    the log's context. What is put into `request.state.answer_headers` goes out with any answer. origins: the web pages
    that may call.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        counter: Counter,
        origins: Sequence[str] = (),
    ) -> None:
        self._app = app
        # Around the errors too: a page that may call the API is to see its problems.
        self._answered = with_origins(self._handled, origins)
        self._counter = counter

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
        """The app; every error that is left becomes a problem."""
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        request_id: str = scope["state"]["request_id"]
        try:
            await self._app(scope, receive, answer)
        except Problem as problem:
            await response_of(problem, request_id)(scope, receive, answer)
        except Exception as error:
            told = unexpected(error)
            if begun:  # the answer is under way: all that is left is to break it off
                raise
            await response_of(told, request_id)(scope, receive, answer)

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


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
