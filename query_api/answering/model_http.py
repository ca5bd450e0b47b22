"""How models are asked over HTTP: errors by a table, one more try, bounded waits and sizes, the frames of a stream.

Before it: the protocols. After it: httpx. Nothing a server says reaches a caller or a log: it may repeat the prompt.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

import httpx
import stamina

from query_api.answering.answers import AnswerLater, AnswerMisconfigured, AnswerUnavailable
from query_api.bounded_http import bounded_client
from runtime.embedding.remote import retry_after
from runtime.server_sent import EventReader

T = TypeVar("T")
LARGEST_REPLY = 16 * 1024 * 1024
"""Bytes of one reply; a streamed token has a frame of 300 bytes around it, so this is 50,000 of them."""

_LONGEST_PAUSE_S = 1.0


def answering_client(timeout_s: float) -> httpx.AsyncClient:
    """The client for asking: no reply above 16 MiB (httpx.ReadError). timeout_s bounds single reads."""
    return bounded_client(timeout_s, LARGEST_REPLY)


def refused(who: str, status: int | None, headers: Mapping[str, str]) -> AnswerUnavailable:
    """The error for a status that is no success; headers may say when to ask again."""
    if status in (401, 403):
        return AnswerMisconfigured(f"{who} refuses the key: check answer.api_key")
    if status in (400, 404, 422):
        return AnswerMisconfigured(f"{who} refuses the request (status {status}): check answer.model and answer.url")
    if status in (408, 429) or status is None or status >= 500:
        return AnswerLater(f"{who} is busy or broken (status {status})", retry_after(headers, time.time))
    return AnswerUnavailable(f"{who} answered with status {status}")


def unreachable(who: str, error: Exception) -> AnswerLater:
    """The error for a connection that failed."""
    return AnswerLater(f"{who} cannot be reached ({type(error).__name__})")


async def tried(ask: Callable[[], Awaitable[T]]) -> T:
    """One more try, after a jittered moment, for what may pass; none where the server wants to be left alone longer."""

    def soon(error: Exception) -> bool:
        return isinstance(error, AnswerLater) and (error.retry_after_s or 0.0) <= _LONGEST_PAUSE_S

    async for attempt in stamina.retry_context(
        on=soon, attempts=2, wait_initial=0.2, wait_max=_LONGEST_PAUSE_S, timeout=None
    ):
        with attempt:
            return await ask()
    raise AssertionError("unreachable: the retry context raises its last error")


async def opened(http: httpx.AsyncClient, request: httpx.Request, who: str) -> httpx.Response:
    """The answer to a request, its body unread: close it. Raises AnswerLater, AnswerUnavailable for its status."""
    try:
        response = await http.send(request, stream=True)
    except httpx.HTTPError as error:
        raise unreachable(who, error) from error
    if not response.is_success:
        await response.aclose()
        raise refused(who, response.status_code, response.headers)
    return response


async def events(response: httpx.Response, who: str) -> AsyncGenerator[dict[str, Any] | None, None]:
    """The data of each event of a stream, decoded: JSON objects, or None for `[DONE]`.

    Raises AnswerUnavailable for a frame that is no JSON object, AnswerLater if the connection breaks.
    """
    reader = EventReader()
    try:
        async for piece in response.aiter_bytes():
            for event in reader.feed(piece):
                yield _decoded(event.data, who)
    except httpx.HTTPError as error:
        raise AnswerLater(f"{who} broke off ({type(error).__name__})") from error


def _decoded(data: bytes, who: str) -> dict[str, Any] | None:
    if data.strip() == b"[DONE]":
        return None
    try:
        found = json.loads(data)
    except ValueError as error:
        raise AnswerUnavailable(f"{who} sent a frame that is no JSON") from error
    if not isinstance(found, dict):
        raise AnswerUnavailable(f"{who} sent a frame that is no JSON object")
    return found


async def bounded(
    source: AsyncGenerator[T, None], who: str, *, stall_s: float, total_s: float
) -> AsyncGenerator[T, None]:
    """What the source gives, each wait at most stall_s and all of it total_s seconds; else AnswerLater."""
    clock = asyncio.get_running_loop()
    ends = clock.time() + total_s
    async with aclosing(source):
        while True:
            try:
                async with asyncio.timeout_at(min(ends, clock.time() + stall_s)):
                    part = await anext(source)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                late = f"in {total_s:g} s" if clock.time() >= ends else f"for {stall_s:g} s"
                raise AnswerLater(f"{who} did not answer {late}") from error
            yield part
