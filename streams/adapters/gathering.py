"""What waits in the log is taken together, so that a document that changed a thousand times is indexed once.

Before this: Faust hands over takes of a bounded number of records. After this: `runner.py` settles units, each with all
the changes of its documents. Only a worker that is far behind on few documents gathers: what many documents wait for is
acknowledged take by take, and a live change is never kept waiting for more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from streams.core.reading import Partition

MOST_BYTES = 32 * 1024 * 1024
"""Of values held at once; a single record may be larger."""

PATIENCE_S = 20.0
"""Longest wait for a take that the broker says is there: a worker that stood still joins its group anew before it gets
more, and what the broker counts may be no record (a marker).
"""

_LOOK_S = 0.02
"""So often a gathering that waits looks whether the reader has passed over the rest."""


class Taken(Protocol):
    """A record as the reader hands it over."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


T = TypeVar("T")
R = TypeVar("R", bound=Taken)


@dataclass
class Gathering(Generic[T]):
    """Joins takes. record: of an item of a take. ends: the next offset of each partition, as last told.

    most: records of one gathering; with `take` or less nothing is ever gathered. to_come: how many records may still
    come from behind an offset of a partition to before an end: the reader knows which are not for this worker.
    """

    takes: AsyncIterator[Sequence[T]]
    record: Callable[[T], Taken]
    ends: Callable[[Sequence[Partition]], Mapping[Partition, int]]
    take: int
    most: int
    to_come: Callable[[Partition, int, int], int]
    patience_s: float = PATIENCE_S
    _coming: asyncio.Future[Sequence[T]] | None = field(default=None)

    async def next(self) -> list[T]:
        """The next take; where more than another take waits behind it, all that waited when it came, up to the bounds.

        It goes on as long as the records are of fewer documents than a take has records.

        Raises StopAsyncIteration when the reader stops.
        """
        found = list(await (self._coming or self._ask()))
        self._coming = None
        if self.most <= self.take:
            return found
        reached = self._reached(found)
        ends = self.ends(list(reached))
        if sum(self.to_come(place, offset, ends.get(place, 0)) for place, offset in reached.items()) < self.take:
            return found
        waited_s = 0.0
        while self._has_room(found) and self._behind(found, ends) and waited_s < self.patience_s:
            self._coming = self._coming or self._ask()
            done, _ = await asyncio.wait({self._coming}, timeout=_LOOK_S)
            if not done:
                waited_s += _LOOK_S  # the rest may be passed over and never come
                continue
            if self._coming.exception() is not None:
                break  # it is looked at when the next one is asked for
            found += self._coming.result()
            self._coming, waited_s = None, 0.0
        return found

    def _ask(self) -> asyncio.Future[Sequence[T]]:
        async def ask() -> Sequence[T]:
            return await anext(self.takes)

        return asyncio.ensure_future(ask())

    def _reached(self, items: Sequence[T]) -> dict[Partition, int]:
        return {(r.topic, r.partition): r.offset for r in map(self.record, items)}

    def _behind(self, items: Sequence[T], ends: Mapping[Partition, int]) -> bool:
        reached = self._reached(items)
        return any(self.to_come(place, reached.get(place, -1), end) for place, end in ends.items())

    def _has_room(self, items: Sequence[T]) -> bool:
        records = [self.record(item) for item in items]
        return (
            len(records) < self.most
            and len({key_or_place(at, record) for at, record in enumerate(records)}) < self.take
            and sum(len(record.value or b"") for record in records) < MOST_BYTES
        )


def key_or_place(at: int, record: Taken) -> bytes | int:
    """What tells a record's document from others; one without a key is alone."""
    return at if record.key is None else record.key


def units(records: Sequence[R], most: int) -> list[list[R]]:
    """The records in parts of at most `most` keys, each key whole and in order; one without key stands for itself."""
    by_key: dict[object, list[R]] = {}
    for at, record in enumerate(records):
        by_key.setdefault(key_or_place(at, record), []).append(record)
    groups = list(by_key.values())
    return [[r for group in groups[at : at + most] for r in group] for at in range(0, len(groups), most)]
