"""The public keys of an issuer (RFC 7517), fetched when needed and kept. Before it: a URL. After it: `tokens.py`.

A token with an unknown key makes one fetch, for issuers change their keys without notice; but no more than one in
`retry_s`, for anyone can make up key ids. While the issuer is away its keys of before are kept, for `stale_s` at most.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK

from runtime.identity.tokens import ASYMMETRIC, KeysUnavailable

_log = structlog.get_logger(__name__)
_FETCH_S = 5.0
_MOST_BYTES = 1_048_576
_MOST_KEYS = 100
_LEAST_RSA_BITS = 2048
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

Fetch = Callable[[], Awaitable[bytes]]


class KeysNotRead(Exception):
    """The key set could not be fetched, or is none."""


class FetchedKeys:
    """See tokens.KeySet. refresh_s: age at which the set is fetched again, beside the requests that use it."""

    def __init__(
        self,
        fetch: Fetch,
        *,
        refresh_s: float,
        retry_s: float,
        stale_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._refresh_s = refresh_s
        self._retry_s = retry_s
        self._stale_s = stale_s
        self._clock = clock
        self._keys: Mapping[str, Mapping[str, Any]] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str, algorithm: str) -> PyJWK | None:
        """See tokens.KeySet."""
        usable = self._usable()
        if usable and kid in self._keys:
            if self._age() > self._refresh_s:
                self._start()  # and this request does not wait for it
            return key_for(self._keys[kid], algorithm)
        started = self._start()
        if started is not None:
            # Every request that waits waits for the same fetch; one that hangs up does not end it for the others.
            await asyncio.shield(started)
        if not self._usable():
            raise KeysUnavailable("the issuer's keys cannot be read")
        found = self._keys.get(kid)
        return None if found is None else key_for(found, algorithm)

    def _usable(self) -> bool:
        return self._read_at is not None and self._age() <= self._stale_s

    def _age(self) -> float:
        return self._clock() - (self._read_at or 0.0)

    def _start(self) -> asyncio.Task[None] | None:
        """The fetch under way, a new one, or None if the last one was a moment ago."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        now = self._clock()
        if self._tried_at is not None and now - self._tried_at < self._retry_s:
            return None
        self._tried_at = now
        self._fetching = asyncio.get_running_loop().create_task(self._read())
        return self._fetching

    async def _read(self) -> None:
        try:
            self._keys = keys_of(await self._fetch())
            self._read_at = self._clock()
        except KeysNotRead as error:
            _log.warning("issuer_keys_not_read", reason=str(error), kept=len(self._keys))


def keys_of(body: bytes) -> dict[str, Mapping[str, Any]]:
    """The public signature keys of a key set, by id; what is no such key is left out. Raises KeysNotRead."""
    try:
        listed = json.loads(body)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise KeysNotRead("no JSON Web Key Set") from error
    if not isinstance(listed, list):
        raise KeysNotRead("no JSON Web Key Set")
    return {key["kid"]: key for key in listed[:_MOST_KEYS] if _is_public_key(key)}


def key_for(key: Mapping[str, Any], algorithm: str) -> PyJWK | None:
    """The key for this algorithm, None if it is of another kind, for another algorithm, or too short."""
    if key.get("alg", algorithm) != algorithm:
        return None
    try:
        found = PyJWK(dict(key), algorithm)
    except jwt.PyJWTError:
        return None
    if isinstance(found.key, RSAPublicKey) and found.key.key_size < _LEAST_RSA_BITS:
        return None
    return found


def _is_public_key(key: Any) -> bool:
    return (
        isinstance(key, dict)
        and isinstance(key.get("kid"), str)
        and key.get("kty") in ("RSA", "EC", "OKP")
        and key.get("use", "sig") == "sig"
        and key.get("alg", "RS256") in ASYMMETRIC
        and _PRIVATE.isdisjoint(key)
    )


def from_url(url: str, client: httpx.AsyncClient) -> Fetch:
    """Fetch the set from there: within 5 s, at most 1 MiB, and from nowhere that an answer points to."""

    async def fetch() -> bytes:
        body = b""
        try:
            async with asyncio.timeout(_FETCH_S), client.stream("GET", url, follow_redirects=False) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise KeysNotRead(f"{url} answers {answer.status_code}")
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > _MOST_BYTES:
                        raise KeysNotRead(f"{url} sends more than {_MOST_BYTES} bytes")
        except (httpx.HTTPError, TimeoutError) as error:
            raise KeysNotRead(f"{url}: {type(error).__name__}") from error
        return body

    return fetch


def from_file(file: Path) -> Fetch:
    """Read the set from a file."""

    async def fetch() -> bytes:
        try:
            return await asyncio.to_thread(file.read_bytes)
        except OSError as error:
            raise KeysNotRead(f"{file}: {error.strerror}") from error

    return fetch
