"""Searches wait here for a place, so that no tenant slows the others. Before it: `service.py`; after it: retrieval.

What a search does without a processor (waiting for a position, writing the answer) is outside of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Gauge

from query_api.asking.turns import Full, Turns
from runtime.web.problems import Problem


class FairQueue:
    """Of one event loop. Every wait is bounded by longest_wait_s."""

    def __init__(self, places: int, *, most_waiting: int, longest_wait_s: float, waiting: Gauge | None = None) -> None:
        """As Turns; waiting shows how many wait."""
        self._turns: Turns[asyncio.Future[None]] = Turns(places, most_waiting)
        self._longest_wait_s = longest_wait_s
        self._gauge = waiting

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncIterator[None]:
        """Hold one of the places. Raises Problem 429 if too many of this tenant wait already, or it took too long."""
        await self._enter(tenant)
        try:
            yield
        finally:
            self._leave(tenant)

    async def _enter(self, tenant: str) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            if self._turns.come(tenant, mine):
                return
        except Full:
            raise _too_many("has too many searches waiting") from None
        self._show()
        try:
            async with asyncio.timeout(self._longest_wait_s):
                await mine
        except (TimeoutError, asyncio.CancelledError) as error:
            if not self._turns.give_up(tenant, mine):
                self._leave(tenant)  # the place came at the very moment in which the caller went
            self._show()
            if isinstance(error, TimeoutError):
                raise _too_many(f"waited for {self._longest_wait_s:g} s for its turn") from error
            raise

    def _leave(self, tenant: str) -> None:
        following = self._turns.leave(tenant)
        if following is not None and not following.done():
            following.set_result(None)
        self._show()

    def _show(self) -> None:
        if self._gauge is not None:
            self._gauge.set(self._turns.waiting)


def _too_many(what: str) -> Problem:
    return Problem(
        "too-many-requests",
        f"This tenant {what}: send fewer at once.",
        headers={"Retry-After": "1"},
        extra={"limit": "concurrency"},
    )
