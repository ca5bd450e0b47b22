"""A request's head must come in time: uvicorn waits for one without end. Before it: a socket; after it: the app.

Give it to uvicorn as `http=HeadTimeout`. What follows the head is the app's to time.
"""

from __future__ import annotations

import asyncio
import json
import uuid

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from runtime.web.problems import MEDIA_TYPE, Problem

HEAD_S = 10.0
"""Longest wait for a whole head, from the connection or the head's first byte on (seconds)."""


class HeadTimeout(H11Protocol):
    """uvicorn's own protocol; a connection that brings no whole head within head_s is closed."""

    head_s = HEAD_S
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A socket was opened."""
        super().connection_made(transport)
        self._late = self.loop.call_later(self.head_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Bytes came: of a head, of a body, or of the next head."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._in_time()
        elif self._late is None and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self._late = self.loop.call_later(self.head_s, self.transport.abort)

    def on_response_complete(self) -> None:
        """An answer is sent; uvicorn times the idle connection itself."""
        self._in_time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._in_time()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP: a problem document like any other, then the end."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # an answer is under way: it has to do
            self.transport.close()
            return
        problem = Problem("malformed-request", f"{msg} Send HTTP/1.1 with a head of at most 64 KiB.")
        body = json.dumps(problem.document(f"urn:request:{uuid.uuid4().hex}")).encode()
        headers = [
            ("content-type", MEDIA_TYPE),
            ("content-length", str(len(body))),
            ("connection", "close"),
        ]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
