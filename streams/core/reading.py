"""Which topic a worker reads next, and which of the records read go on to its stage.

Before this: `adapters/fair_reading.py`, which fetches. After this: the stage, by way of Faust, whose way of counting
acknowledgements `Passing` goes by: to it, records left out are gaps, as compaction makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from schemas.headers import Headers

Partition = tuple[str, int]


class Read(Protocol):
    """A record as the client gives it."""

    @property
    def offset(self) -> int: ...
    @property
    def headers(self) -> Headers: ...


R = TypeVar("R", bound=Read)
P = TypeVar("P", bound=Partition)


@dataclass
class Turns:
    """A topic that gave records rests until its pace allows more; the others are not held back by it.

    per_second: records of one topic; None: no topic rests. Times are seconds of a monotonic clock.
    """

    per_second: float | None
    _until: dict[str, float] = field(default_factory=dict)

    def resting(self, topics: Iterable[str], now: float) -> dict[str, float]:
        """Those that rest, and for how many seconds from now."""
        return {topic: until - now for topic in topics if (until := self._until.get(topic, now)) > now}

    def gave(self, topic: str, records: int, now: float) -> None:
        """It gave so many at this time."""
        if self.per_second is not None:
            self._until[topic] = max(now, self._until.get(topic, now)) + records / self.per_second


@dataclass
class Passing(Generic[P, R]):
    """Leaves out the records that are not for this worker, but for each partition's last, once in `every_s` seconds.

    The acknowledgement of that last one takes the ones before it along. It is handed over now and then only, for the
    worker takes it like a change, and a change behind it waits. wanted: by the headers; None: every record is.

    It knows which offsets nobody is to get: those left out, and those that the log does not hold. A record that went on
    and is missing further down is none of them.
    """

    wanted: Callable[[Headers], bool] | None
    every_s: float
    _passed: dict[P, R] = field(default_factory=dict)
    _behind: dict[Partition, int] = field(default_factory=dict)  # the offset behind the last that went on
    _left_out: dict[tuple[Partition, int], int] = field(default_factory=dict)
    _seen: dict[Partition, tuple[int, int]] = field(default_factory=dict)  # the last offset wanted, and the last
    _told: float = 0.0

    def let_through(self, read: Mapping[P, Sequence[R]], now: float) -> dict[P, list[R]]:
        """Of what was read just now, with what is to be acknowledged of before, what goes on."""
        wanted, found = self.wanted, dict[P, list[R]]()
        for place, records in read.items():
            mine = [record for record in records if wanted is None or wanted(record.headers)]
            last = mine[-1].offset if mine else self._seen.get(place, (-1, -1))[0]
            self._seen[place] = last, records[-1].offset
            self._behind.setdefault(place, records[0].offset)
            for record in mine:
                self._goes_on(found, place, record)
            if last == records[-1].offset:
                self._passed.pop(place, None)
            else:
                self._passed[place] = records[-1]
        if now - self._told >= self.every_s:
            for place, record in self._passed.items():
                self._goes_on(found, place, record)
            self._passed.clear()
            self._told = now
        return found

    def _goes_on(self, found: dict[P, list[R]], place: P, record: R) -> None:
        found.setdefault(place, []).append(record)
        if self._behind[place] < record.offset:
            self._left_out[place, record.offset] = self._behind[place]
        self._behind[place] = record.offset + 1

    def since(self, place: Partition, offset: int) -> int:
        """From where on nobody is to get what lies before this record, which went on. Asked once for each."""
        return self._left_out.pop((place, offset), offset)

    def behind(self, place: Partition) -> int:
        """The offset behind the last record that went on; 0: none did since the partitions came."""
        return self._behind.get(place, 0)

    def to_come(self, place: Partition, offset: int, end: int) -> int:
        """How many records from behind this offset to before `end` may still go on; any thread may ask."""
        last, seen = self._seen.get(place, (offset, offset))
        return max(0, last - offset) + max(0, end - 1 - max(seen, offset))

    def forget(self) -> None:
        """Partitions come or go, or reading begins elsewhere: what is read next may lie before what was read."""
        self._passed.clear()
        self._seen.clear()
        self._behind.clear()
        self._left_out.clear()
