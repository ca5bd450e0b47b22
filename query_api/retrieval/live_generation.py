"""Which generation is live: remembered for a second, asked for once by all who wait, under load ahead of time.

Before it: `weaviate_index.py`, which says how to ask. A collection never changes what generation it is, so mostly the
alias alone is asked for, which is cheap; the whole description of a collection is read when the alias moved, and for
who needs its metadata keys, which documents add to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from query_api.retrieval.ports import Live

_LIVE_S = 1.0
_AHEAD_S = 0.5
"""So long before its end what is remembered is looked up anew, if anybody asks: nobody then waits for it."""


@dataclass(frozen=True)
class _Seen:
    """live until (generation), and until (its keys), by the clock at the beginning of the look."""

    collection: str
    live: Live
    until: float
    keys_until: float


class LiveGeneration:
    """Of one event loop. named: the collection that the alias names; described: what such a collection is.

    Both raise NoIndex and IndexUnavailable, and so does `get`. clock counts seconds.
    """

    def __init__(
        self,
        named: Callable[[], Awaitable[str]],
        described: Callable[[str], Awaitable[Live]],
        clock: Callable[[], float],
    ) -> None:
        self._named = named
        self._described = described
        self._clock = clock
        self._seen: _Seen | None = None
        self._looking: asyncio.Task[Live] | None = None
        self._describing: asyncio.Task[Live] | None = None

    async def get(self, *, keys: bool = False, anew: bool = False) -> Live:
        """At most a second old, with `keys` its keys too; `anew`: looked up, keys and all, after this call began."""
        if anew:
            await self._ended()
            return await asyncio.shield(self._look(whole=True))
        now, seen = self._clock(), self._seen
        until = 0.0 if seen is None else min(seen.until, seen.keys_until) if keys else seen.until
        if seen is None or now >= until:
            # All who wait share one question to the store, and one of them hanging up does not end it.
            return await asyncio.shield(self._look(whole=keys))
        if now >= until - _AHEAD_S:
            self._look(whole=keys)
        return seen.live

    def forget(self) -> None:
        """What was seen is known to be wrong."""
        self._seen = None

    async def _ended(self) -> None:
        """A look under way may have passed what is asked for; how it ends is of no matter."""
        if self._describing is not None and not self._describing.done():
            await asyncio.wait([self._describing])

    def _look(self, *, whole: bool) -> asyncio.Task[Live]:
        """The look that is under way, else a new one."""
        for task in (self._describing, None if whole else self._looking):
            if task is not None and not task.done():
                return task
        task = asyncio.create_task(self._looked(whole))
        # Nobody may be waiting: what fails is then found again by who needs it.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        if whole:
            self._describing = task
        else:
            self._looking = task
        return task

    async def _looked(self, whole: bool) -> Live:
        until = self._clock() + _LIVE_S
        collection = await self._named()
        seen = self._seen
        if not whole and seen is not None and seen.collection == collection:
            self._seen = _Seen(collection, seen.live, until, seen.keys_until)
        else:
            self._seen = _Seen(collection, await self._described(collection), until, until)
        return self._seen.live
