"""Bodies that are too long or too slow end here, whatever the route: counted and timed while they come.

Before this: uvicorn. After this: the routes, which read the body through it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.web.problems import Problem, response_of

_CLOSE = {"Connection": "close"}


class BodyGuard:
    """limits: longest body by path (bytes); `*` is every other one. A longer one is answered 413, at once if its
    Content-Length says so.

    idle_s: longest wait for the next bytes. min_rate: bytes a second that a body must reach on average after grace_s;
    a slower one is answered 408. Both keep a few slow senders from holding connections and disk for hours.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Mapping[str, int],
        refuse: Callable[[str, int], Problem],
        idle_s: float = 30.0,
        grace_s: float = 20.0,
        min_rate: float = 4096.0,
    ) -> None:
        self._app = app
        self._limits = dict(limits)
        self._refuse = refuse
        self._idle_s = idle_s
        self._grace_s = grace_s
        self._min_rate = min_rate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.get(scope["path"], self._limits["*"])
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > limit:
            problem = self._refuse(scope["path"], limit)
            await response_of(problem, scope.get("state", {}).get("request_id", "unknown"))(scope, receive, send)
            return
        await self._app(scope, self._guarded(scope, receive, limit), send)

    def _guarded(self, scope: Scope, receive: Receive, limit: int) -> Receive:
        size, started, whole = 0, time.monotonic(), False

        async def guarded() -> Message:
            nonlocal size, whole
            if whole:  # what follows a body is the wait for a hang-up: that may take as long as it likes
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._idle_s)
            except TimeoutError as error:
                raise HTTPException(408, f"No bytes came for {self._idle_s:g} s.", headers=_CLOSE) from error
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if size > limit:
                problem = self._refuse(scope["path"], limit)
                raise HTTPException(413, problem.detail, headers=_CLOSE)
            elapsed = time.monotonic() - started
            if not whole and elapsed > self._grace_s and size < elapsed * self._min_rate:
                raise HTTPException(408, f"Fewer than {self._min_rate:g} bytes a second came.", headers=_CLOSE)
            return message

        return guarded
