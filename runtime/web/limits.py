"""How many requests a caller and its tenant may send: counted here, shared by replicas where there is a Redis.

Before it: `identity.py` (who is calling). After it: routes, or a problem 429 with `Retry-After`. The engine is the
library `limits`: a counter over a sliding minute. Headers: draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from fastapi import FastAPI, Request
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from runtime.access import Principal
from runtime.breaker import Breaker, CircuitOpen
from runtime.metrics import Metrics
from runtime.settings import Limits
from runtime.web.problems import Problem

Holder = Literal["key", "user"]
_WINDOW_S = 60
_STORE_S = 1.0
"""Longest wait for the shared store, which answers in a millisecond: after that it is away, and left alone."""

_STORE_AWAY_S = 2.0
"""So long it is left alone after it failed; meanwhile each replica counts for itself."""


@dataclass(frozen=True)
class Rate:
    """The most requests in a minute, burst included. name says whose: `key`, `user`, `tenant`, `administrator`."""

    name: str
    most: int
    identity: str


class RateLimits:
    """Counts requests. Of one event loop. now: Unix seconds, as the library's own clock."""

    def __init__(
        self,
        settings: Limits,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        window_s: int = _WINDOW_S,
    ) -> None:
        self._settings = settings
        self._refused = metrics.rate_limited
        self._now = now
        self._window_s = window_s
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared: SlidingWindowCounterRateLimiter | None = None
        if settings.url is not None:
            self._shared = SlidingWindowCounterRateLimiter(_redis(settings.url.get_secret_value()))
        self._store = Breaker(
            "limits store",
            failing=(StorageError, TimeoutError),
            failures=1,
            open_s=_STORE_AWAY_S,
            longest_open_s=_STORE_AWAY_S,
            clock=clock,
            told=metrics.circuit_told,
        )

    async def admit(self, caller: Principal, holder: Holder, held: str, *, write: bool) -> dict[str, str]:
        """Count one request; the headers that tell what is left. held names the key or the user.

        Raises Problem 429 if that is one too many. While the shared store is away reads go on by this replica's own
        count, with the same limits, and writes get Problem 503.
        """
        headers: dict[str, str] = {}
        for rate in self._rates(caller, holder, held):
            counter = await self._counter(rate, write=write)
            if counter is None:
                continue
            left, reset_s = counter
            if left < 0:
                self._refused.labels(limit=rate.name).inc()
                raise _too_many(rate, self._window_s, reset_s)
            headers = headers or _headers(rate, self._window_s, left, reset_s)
        return headers

    def _rates(self, caller: Principal, holder: Holder, held: str) -> list[Rate]:
        settings = self._settings
        if caller.admin:
            # Not counted for its tenant either: an administrator's load job must not use up what the others have.
            found: list[tuple[str, int, str]] = [
                ("administrator", settings.per_administrator, f"{caller.tenant}/{held}")
            ]
        else:
            own = settings.per_key if holder == "key" else settings.per_user
            found = [(holder, own, f"{caller.tenant}/{held}"), ("tenant", settings.per_tenant, caller.tenant)]
        return [Rate(name, amount + settings.burst, whose) for name, amount, whose in found if amount > 0]

    async def _counter(self, rate: Rate, *, write: bool) -> tuple[int, float]:
        """(requests left, seconds until there is more) after this one; -1 left: it was one too many."""
        if self._shared is not None:
            shared = self._shared
            try:
                return await self._store.call(lambda: self._asked(shared, rate))
            except (StorageError, TimeoutError, CircuitOpen) as error:
                if write:
                    raise Problem(
                        "unavailable",
                        "The store that counts requests is away, and no change is taken uncounted.",
                        headers={"Retry-After": str(math.ceil(_STORE_AWAY_S))},
                    ) from error
        return await self._hit(self._local, rate)

    async def _asked(self, limiter: SlidingWindowCounterRateLimiter, rate: Rate) -> tuple[int, float]:
        async with asyncio.timeout(_STORE_S):
            return await self._hit(limiter, rate)

    async def _hit(self, limiter: SlidingWindowCounterRateLimiter, rate: Rate) -> tuple[int, float]:
        item = RateLimitItemPerSecond(rate.most, self._window_s)
        taken = await limiter.hit(item, rate.name, rate.identity)
        found = await limiter.get_window_stats(item, rate.name, rate.identity)
        return (max(found.remaining, 0) if taken else -1), max(found.reset_time - self._now(), 0.0)


def install(app: FastAPI, rates: RateLimits | None, *, reads: frozenset[str] = frozenset()) -> None:
    """Let this app's requests be counted; None: none are. reads: paths of routes that change nothing though POSTed."""
    app.state.limits = (rates, reads)


async def admit(request: Request, caller: Principal, holder: Holder, held: str) -> None:
    """Count a request whose caller is known. Raises as RateLimits.admit; its headers go out with any answer."""
    rates, reads = getattr(request.app.state, "limits", (None, frozenset()))
    if rates is None:
        return
    route = getattr(request.scope.get("route"), "path", "")
    write = request.method not in ("GET", "HEAD") and route not in reads
    request.state.counted = partial(rates.admit, caller, holder, held, write=write)
    request.state.answer_headers = await request.state.counted()


async def again(request: Request) -> None:
    """Count one more request of this one's caller, for a request that is several. Raises as RateLimits.admit."""
    counted: Callable[[], Awaitable[dict[str, str]]] | None = getattr(request.state, "counted", None)
    if counted is not None:
        request.state.answer_headers = await counted()


def _headers(rate: Rate, window_s: int, left: int, reset_s: float) -> dict[str, str]:
    return {
        "RateLimit-Policy": f'"{rate.name}";q={rate.most};w={window_s}',
        "RateLimit": f'"{rate.name}";r={left};t={math.ceil(reset_s)}',
    }


def _too_many(rate: Rate, window_s: int, reset_s: float) -> Problem:
    again = max(1, math.ceil(reset_s))
    return Problem(
        "too-many-requests",
        f"More than {rate.most} requests in {window_s} s by this {rate.name}: wait for {again} s.",
        headers={"Retry-After": str(again), **_headers(rate, window_s, 0, reset_s)},
        extra={"limit": rate.name, "requests": rate.most, "window_s": window_s},
    )


def _redis(url: str) -> Storage:
    """A store that speaks Redis' protocol, Valkey or Redis; nobody is asked yet."""
    url = url.replace("valkey", "redis", 1) if url.startswith("valkey") else url
    # Callers beyond the pool wait for a connection, which is a failure of the store only when it takes too long.
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=20,
        timeout=_STORE_S,
        socket_timeout=_STORE_S,
        socket_connect_timeout=_STORE_S,
        retry=Retry(NoBackoff(), 0),
    )
    return RedisStorage(
        f"async+{url}",
        wrap_exceptions=True,
        implementation="redispy",
        key_prefix="thalweg",
        connection_pool=pool,  # type: ignore[arg-type]  # its documentation asks for one, its annotation does not
    )
