"""The connection to Weaviate: made when first needed, made anew after a failure, every call bounded, errors ours.

Before it: `weaviate_index.py`. After it: Weaviate's own asynchronous client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

import structlog
from weaviate import WeaviateAsyncClient
from weaviate.auth import Auth
from weaviate.config import AdditionalConfig, Timeout
from weaviate.connect import ConnectionParams
from weaviate.exceptions import (
    UnexpectedStatusCodeError,
    WeaviateInvalidInputError,
    WeaviateQueryError,
)

from query_api.retrieval.ports import IndexUnavailable, NoIndex
from runtime.breaker import Breaker, CircuitOpen, State
from runtime.weaviate import AWAY

T = TypeVar("T")
_CONNECT_S = 2.0
_log = structlog.get_logger(__name__)


class UnknownTenant(Exception):
    """The collection has no such tenant: nothing of it was ever indexed there."""


def weaviate_breaker(
    told: Callable[[str, State], None] | None = None, clock: Callable[[], float] = time.monotonic
) -> Breaker:
    """The store's breaker; why it is as it is, `circuits.py` says."""
    return Breaker(
        "weaviate", failing=(IndexUnavailable,), failures=2, open_s=1.0, longest_open_s=1.0, told=told, clock=clock
    )


class WeaviateLink:
    """Runs calls against a client. timeout_s bounds each; while the breaker is open, calls are refused at once.

    url is `http(s)://host:port`; grpc is `host:port`.
    """

    def __init__(
        self,
        url: str,
        grpc: str,
        api_key: str | None,
        *,
        timeout_s: float,
        breaker: Breaker | None = None,
    ) -> None:
        self._url, self._grpc, self._api_key = url, grpc, api_key
        self._timeout_s = timeout_s
        self._breaker = breaker or weaviate_breaker()
        self._client: WeaviateAsyncClient | None = None
        self._connecting = asyncio.Lock()
        self._given_up: set[WeaviateAsyncClient] = set()
        self._closing: set[asyncio.Task[None]] = set()

    async def call(self, use: Callable[[WeaviateAsyncClient], Awaitable[T]]) -> T:
        """What `use` gives with a connected client. Raises IndexUnavailable, NoIndex, UnknownTenant."""
        try:
            return await self._breaker.call(lambda: self._called(use))
        except CircuitOpen as error:
            raise IndexUnavailable("Weaviate did not answer just now", error.retry_after_s) from error

    async def _called(self, use: Callable[[WeaviateAsyncClient], Awaitable[T]]) -> T:
        client: WeaviateAsyncClient | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                client = await self._connected()
                return await use(client)
        except UnknownTenant:
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # gRPC says so when the channel went away under a call; nobody cancelled us.
            raise self._failed(client, error) from error
        except Exception as error:
            ours = _ours(error, self._timeout_s)
            if isinstance(ours, IndexUnavailable):
                self._failed(client, error)
            raise ours from error

    async def close(self) -> None:
        """Close all connections."""
        for closing in tuple(self._closing):
            closing.cancel()
        clients = [*self._given_up, *([self._client] if self._client is not None else [])]
        self._client = None
        self._given_up.clear()
        for client in clients:
            await _close(client)

    async def _connected(self) -> WeaviateAsyncClient:
        async with self._connecting:
            if self._client is None:
                client = self._new_client()
                await client.connect()
                self._client = client
            return self._client

    def _new_client(self) -> WeaviateAsyncClient:
        http, (grpc_host, _, grpc_port) = urlsplit(self._url), self._grpc.rpartition(":")
        secure = http.scheme == "https"
        parameters = ConnectionParams.from_params(
            http_host=http.hostname or "",
            http_port=http.port or (443 if secure else 80),
            http_secure=secure,
            grpc_host=grpc_host,
            grpc_port=int(grpc_port),
            grpc_secure=secure,
        )
        timeout = Timeout(init=_CONNECT_S, query=self._timeout_s, insert=self._timeout_s)
        return WeaviateAsyncClient(
            parameters,
            auth_client_secret=Auth.api_key(self._api_key) if self._api_key else None,
            additional_config=AdditionalConfig(timeout=timeout),
            skip_init_checks=True,
        )

    def _failed(self, client: WeaviateAsyncClient | None, error: BaseException) -> IndexUnavailable:
        """Drop the client: its channel may wait for minutes before it connects anew."""
        _log.warning("weaviate_failed", error=type(error).__name__)
        if client is not None and client is self._client:
            self._client = None
            self._given_up.add(client)
            closing = asyncio.create_task(self._close_later(client))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        return IndexUnavailable(f"Weaviate cannot be asked ({type(error).__name__})")

    async def _close_later(self, client: WeaviateAsyncClient) -> None:
        """Close a client once the calls that others have under way on it have ended."""
        await asyncio.sleep(self._timeout_s + 1.0)
        self._given_up.discard(client)
        await _close(client)


async def _close(client: WeaviateAsyncClient) -> None:
    try:
        async with asyncio.timeout(_CONNECT_S):
            await client.close()
    except Exception as error:  # noqa: BLE001  # it is given up anyway
        _log.debug("weaviate_close_failed", error=type(error).__name__)


def _ours(error: Exception, timeout_s: float) -> Exception:
    """The vendor's error in our words, by the table that Weaviate 1.39's messages make."""
    if isinstance(error, IndexUnavailable | NoIndex | WeaviateInvalidInputError):
        return error
    text = str(error)
    if isinstance(error, WeaviateQueryError | UnexpectedStatusCodeError):
        if "tenant not found" in text:
            return UnknownTenant(text)
        if "could not find class" in text or "class not found" in text:
            return NoIndex("the live generation's collection is gone")
    if isinstance(error, TimeoutError):
        return IndexUnavailable(f"Weaviate did not answer within {timeout_s:g} s")
    if isinstance(error, AWAY):
        return IndexUnavailable(f"Weaviate cannot be asked ({type(error).__name__})")
    return error
