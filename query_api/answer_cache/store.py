"""Where answers are kept: the port, and a store in this process's memory with bounds.

Before it: `cache.py`, which names and encodes them. After it: nothing, or `redis_store.py`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

_OVERHEAD = 300
"""Bytes that an entry takes beside its value: name, time, places in the table."""


class StoreUnavailable(Exception):
    """The store did not answer in time, or at all. For a caller that is the same as not having kept anything."""


class AnswerStore(Protocol):
    """Keeps bytes under names for a while. It may forget any of them at any time, and never changes one."""

    async def get(self, name: str) -> bytes | None:
        """What is kept, None: nothing, or nothing that was put there. Bounded in time. Raises StoreUnavailable."""
        ...

    async def put(self, name: str, value: bytes) -> None:
        """Keep it. Bounded in time. Raises StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Let connections go."""
        ...


class MemoryStore:
    """Of one event loop. What was not used for longest goes first; seconds: so long an entry lives, used or not."""

    def __init__(
        self, *, most_bytes: int, most_entries: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most_bytes = most_bytes
        self._most_entries = most_entries
        self._seconds = seconds
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self.size = 0
        """Bytes that the entries take."""

    def __len__(self) -> int:
        return len(self._entries)

    async def get(self, name: str) -> bytes | None:
        found = self._entries.get(name)
        if found is None:
            return None
        until, value = found
        if self._clock() >= until:
            self._drop(name)
            return None
        self._entries.move_to_end(name)
        return value

    async def put(self, name: str, value: bytes) -> None:
        if name in self._entries:
            self._drop(name)
        if len(value) + _OVERHEAD > self._most_bytes or self._most_entries < 1:
            return
        self._entries[name] = (self._clock() + self._seconds, value)
        self.size += len(value) + _OVERHEAD
        while self.size > self._most_bytes or len(self._entries) > self._most_entries:
            self._drop(next(iter(self._entries)))

    async def close(self) -> None:
        self._entries.clear()
        self.size = 0

    def _drop(self, name: str) -> None:
        _, value = self._entries.pop(name)
        self.size -= len(value) + _OVERHEAD
