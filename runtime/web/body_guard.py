"""Bodies that are too long or too slow end here, whatever the route: counted and timed while they come.

Before this: uvicorn. After this: the routes, which read the body through it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.web.problems import Problem, response_of

_CLOSE = {"Connection": "close"}
_BODILESS = ("GET", "HEAD", "OPTIONS", "DELETE")
_LINGER_BYTES = 67_108_864  # 64 MiB, read and dropped


def too_large(path: str, limit: int) -> Problem:
    """What is said of a body beyond its limit, unless somebody knows better."""
    del path
    return Problem("too-large", f"The body is larger than {limit} bytes: send less at once.", headers=_CLOSE)


class BodyGuard:
    """limits: longest body by path (bytes); `*` is every other one. A longer one is answered 413, at once if its
    Content-Length says so.

    idle_s: longest wait for the next bytes. min_rate: bytes a second that a body must reach on average after grace_s;
    a slower one is answered 408. Both keep a few slow senders from holding connections and disk for hours.

    held_bytes: how much the bodies of paths without a limit of their own may take together, for their routes hold them
    in memory; what is beyond it is answered 503.

    After an answer that came before its body the connection is closed, and read on for linger_s at most: a sender that
    is still at it would otherwise lose the answer to a reset.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Mapping[str, int],
        refuse: Callable[[str, int], Problem] = too_large,
        idle_s: float = 30.0,
        grace_s: float = 20.0,
        min_rate: float = 4096.0,
        linger_s: float = 2.0,
        held_bytes: int = 268_435_456,
    ) -> None:
        self._app = app
        self._limits = dict(limits)
        self._refuse = refuse
        self._idle_s = idle_s
        self._grace_s = grace_s
        self._min_rate = min_rate
        self.linger_s = linger_s
        self._held_bytes = held_bytes
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(self, scope, receive, send)
        try:
            await body.answer(self._app)
        finally:
            self._held -= body.held

    def limit_of(self, path: str) -> int:
        """The longest body of a path."""
        return self._limits.get(path, self._limits["*"])

    def hold(self, path: str, size: int) -> int:
        """Count bytes that a route will hold; how many are counted. Raises HTTPException 503."""
        if path in self._limits:
            return 0
        if self._held + size > self._held_bytes:
            raise HTTPException(503, "Too many large bodies at once.", headers={**_CLOSE, "Retry-After": "5"})
        self._held += size
        return size

    def too_long(self, path: str) -> Problem:
        """The answer to a body beyond its limit."""
        return self._refuse(path, self.limit_of(path))

    def too_slow(self, size: int, elapsed_s: float) -> HTTPException | None:
        """The answer to a body that comes too slowly."""
        if elapsed_s > self._grace_s and size < elapsed_s * self._min_rate:
            return HTTPException(408, f"Fewer than {self._min_rate:g} bytes a second came.", headers=_CLOSE)
        return None

    async def next(self, receive: Receive) -> Message:
        """The body's next bytes. Raises HTTPException 408 if none come."""
        try:
            return await asyncio.wait_for(receive(), self._idle_s)
        except TimeoutError as error:
            raise HTTPException(408, f"No bytes came for {self._idle_s:g} s.", headers=_CLOSE) from error


class _Body:
    """One request's body. held: bytes of it that count as held in memory."""

    def __init__(self, guard: BodyGuard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard = guard
        self._scope = scope
        self._receive = receive
        self._send = send
        self._started = time.monotonic()
        self._size = 0
        headers = Headers(scope=scope)
        self._declared = int(text) if (text := headers.get("content-length", "")).isdigit() else None
        bodiless = self._declared is None and "transfer-encoding" not in headers and scope["method"] in _BODILESS
        self._whole = bodiless or self._declared == 0
        # Who waits for our word before it sends has sent nothing that could be lost.
        self._waits = headers.get("expect", "").lower() == "100-continue"
        self.held = 0

    async def answer(self, app: ASGIApp) -> None:
        """Let the app answer, or refuse at once what says that it is too long."""
        if self._declared is not None and self._declared > self._guard.limit_of(self._scope["path"]):
            request_id = self._scope.get("state", {}).get("request_id", "unknown")
            app = response_of(self._guard.too_long(self._scope["path"]), request_id)
        await app(self._scope, self._read, self._write)

    async def _read(self) -> Message:
        if self._whole:  # what follows a body is the wait for a hang-up: that may take as long as it likes
            return await self._receive()
        guard, path = self._guard, self._scope["path"]
        message = await guard.next(self._receive)
        self._waits = False
        size = len(message.get("body", b""))
        self._size += size
        self._whole = not message.get("more_body", False)
        if self._size > guard.limit_of(path):
            problem = guard.too_long(path)
            raise HTTPException(413, problem.detail, headers=_CLOSE)
        self.held += guard.hold(path, size)
        slow = guard.too_slow(self._size, time.monotonic() - self._started)
        if slow is not None and not self._whole:
            raise slow
        return message

    async def _write(self, message: Message) -> None:
        if self._whole:
            await self._send(message)
        elif message["type"] == "http.response.start":
            MutableHeaders(scope=message)["Connection"] = "close"
            await self._send(message)
        elif message["type"] != "http.response.body" or message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            if not self._waits and self._guard.linger_s > 0:
                await self._linger()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self) -> None:
        """Read on until the sender has stopped: what lies unread when a socket is closed resets it at the other end."""
        dropped = 0
        try:
            async with asyncio.timeout(self._guard.linger_s):
                while dropped < _LINGER_BYTES:
                    message = await self._receive()
                    dropped += len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            return
