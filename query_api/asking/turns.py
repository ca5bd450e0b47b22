"""Whose search is next: so many at once, the tenants in turns, each with a bounded queue. Pure: no clock, no loop.

Before it: `fair_queue.py`, which makes callers wait. After it: nothing. The law: of those who wait, the tenant that
has the fewest searches under way is served next, and among equals the one that was served longest ago. So a tenant
alone has all places, and one that asks a hundred times as much as another takes none of the other's turns.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

W = TypeVar("W")


class Full(Exception):
    """The tenant has as many searches waiting as it may."""


class Turns(Generic[W]):
    """The places. W stands for who waits; memory is bounded by places and by what each tenant may have waiting."""

    def __init__(self, places: int, most_waiting: int) -> None:
        """places: searches at once, of all tenants. most_waiting: of one tenant."""
        self._places = places
        self._most_waiting = most_waiting
        self._under_way: dict[str, int] = {}
        # In the order in which the tenants were last served: the first has waited longest for a turn.
        self._waiting: OrderedDict[str, deque[W]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Searches that wait, of all tenants."""
        return sum(map(len, self._waiting.values()))

    @property
    def under_way(self) -> int:
        """Searches that have a place."""
        return sum(self._under_way.values())

    def come(self, tenant: str, waiter: W) -> bool:
        """True: it has a place, and `leave` gives it back. False: it waits until `leave` names it. Raises Full."""
        if self.under_way < self._places and not self._waiting:
            self._take(tenant)
            return True
        queue = self._waiting.get(tenant)
        if queue is None:
            queue = self._waiting[tenant] = deque()
        elif len(queue) >= self._most_waiting:
            raise Full
        queue.append(waiter)
        return False

    def leave(self, tenant: str) -> W | None:
        """Give a place of the tenant's back; who has it now, None if nobody waits."""
        left = self._under_way[tenant] - 1
        if left:
            self._under_way[tenant] = left
        else:
            del self._under_way[tenant]
        if not self._waiting:
            return None
        following = min(self._waiting, key=lambda name: self._under_way.get(name, 0))
        queue = self._waiting.pop(following)
        waiter = queue.popleft()
        if queue:
            self._waiting[following] = queue  # at the end: its turn was now
        self._take(following)
        return waiter

    def give_up(self, tenant: str, waiter: W) -> bool:
        """A waiting one goes away; False if it is not waiting any more, and so has a place."""
        queue = self._waiting.get(tenant)
        if queue is None or waiter not in queue:
            return False
        queue.remove(waiter)
        if not queue:
            del self._waiting[tenant]
        return True

    def _take(self, tenant: str) -> None:
        self._under_way[tenant] = self._under_way.get(tenant, 0) + 1
