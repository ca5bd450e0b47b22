"""Answers kept in Redis or Valkey, for all replicas of the query API together.

Before it: `cache.py`. After it: the server, which may be away, slow, full, or hold what others wrote: each of
these is "not kept". Names and values are sealed with a secret of the replicas (AES-256-GCM, NIST SP 800-38D; keys by
HKDF, RFC 5869), so that who reads the server learns no text, and who writes to it makes no answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from query_api.answer_cache.store import StoreUnavailable

_log = structlog.get_logger(__name__)
T = TypeVar("T")
PREFIX = "thalweg:answer:"
_NONCE = 12
_MOST_BYTES = 1_048_576
"""Largest value that is kept, or read (1 MiB): an answer has some kilobytes."""

_CONNECTIONS = 20
_LEFT_ALONE_S = 2.0
"""So long the server is not asked again after it failed, for each question would wait for it."""


class RedisStore:
    """Of one event loop. timeout_s bounds every call; seconds: how long an entry lives. Nobody is asked yet."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        seconds: int,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url.replace("valkey", "redis", 1) if url.startswith("valkey") else url,
            max_connections=_CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        self._client = Redis.from_pool(pool)
        self._seconds = seconds
        self._timeout_s = timeout_s
        self._clock = clock
        self._name_key = _derived(secret, b"names")
        self._seal = AESGCM(_derived(secret, b"values"))
        self._ask_again = 0.0

    async def get(self, name: str) -> bytes | None:
        stored = self._stored_name(name)
        try:
            # A range, for a value that somebody else made large must not come into memory.
            found = await self._asked(lambda: self._client.getrange(stored, 0, _MOST_BYTES + 64))
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                return None  # something of another kind is there: not ours
            raise StoreUnavailable(type(error).__name__) from error
        return self._opened(stored, found) if isinstance(found, bytes) and found else None

    async def put(self, name: str, value: bytes) -> None:
        if len(value) > _MOST_BYTES:
            return
        stored, nonce = self._stored_name(name), secrets.token_bytes(_NONCE)
        sealed = nonce + self._seal.encrypt(nonce, value, stored.encode())
        try:
            await self._asked(lambda: self._client.set(stored, sealed, ex=self._seconds))
        except ResponseError as error:  # full, read-only, no right to write: told, and of no consequence
            raise StoreUnavailable(type(error).__name__) from error

    async def close(self) -> None:
        await self._client.aclose()

    def _stored_name(self, name: str) -> str:
        return PREFIX + hmac.new(self._name_key, name.encode(), hashlib.sha256).hexdigest()

    def _opened(self, stored: str, sealed: bytes) -> bytes | None:
        """The value; None if it was not sealed with our secret under this very name, or is not whole."""
        try:
            return self._seal.decrypt(sealed[:_NONCE], sealed[_NONCE:], stored.encode())
        except (InvalidTag, ValueError):
            return None

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        if self._clock() < self._ask_again:
            raise StoreUnavailable("it failed just now, and is left alone for a moment")
        try:
            async with asyncio.timeout(self._timeout_s):
                return await ask()
        except ResponseError:
            raise  # it answered
        except (RedisError, OSError, TimeoutError) as error:
            self._ask_again = self._clock() + _LEFT_ALONE_S
            _log.warning("answer_store_away", reason=type(error).__name__, left_alone_s=_LEFT_ALONE_S)
            raise StoreUnavailable(f"{type(error).__name__}") from error


def _derived(secret: str, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"thalweg answers, 1, " + purpose).derive(
        secret.encode()
    )
