"""Kafka in memory: topics of partitions, groups with committed offsets, a producer whose answers may get lost.

Before this: `sources.py` and the stages append. After this: `process.py` reads.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from runtime.producer import Delivery, DeliveryFailed, Outgoing
from streams.ports import Inbound

Place = tuple[str, int]


class Points(Protocol):
    """Where a process may be stopped, fail or die."""

    def point(self, failure: Callable[[], Exception]) -> None:
        """Called before a call to the outside and after each single effect of it."""
        ...


@dataclass
class Broker:
    """All topics. now_ms is the log's append time; appended is told of every record."""

    now_ms: Callable[[], int]
    partitions: dict[str, int]
    appended: Callable[[Inbound], None] = lambda _: None
    logs: dict[Place, list[Inbound]] = field(default_factory=dict)
    committed: dict[tuple[str, Place], int] = field(default_factory=dict)

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes | None]] = (),
        partition: int | None = None,
    ) -> Inbound:
        """Append a record; the key decides the partition unless it is given."""
        count = self.partitions[topic]
        number = (zlib.crc32(key or b"") if partition is None else partition) % count
        log = self.logs.setdefault((topic, number), [])
        record = Inbound(topic, number, len(log), self.now_ms(), key, value, tuple(headers))
        log.append(record)
        self.appended(record)
        return record

    def places(self, topics: Iterable[str]) -> list[Place]:
        """Every partition of these topics."""
        return [(topic, number) for topic in topics for number in range(self.partitions[topic])]

    def end(self, place: Place) -> int:
        """The offset after the last record."""
        return len(self.logs.get(place, ()))

    def lag(self, group: str, topics: Iterable[str]) -> int:
        """Records that the group has not acknowledged."""
        return sum(self.end(place) - self.committed.get((group, place), 0) for place in self.places(topics))


class SimulatedProducer:
    """ConfirmedProducer of one process. A call that fails may have delivered some, or all."""

    def __init__(self, broker: Broker, process: Points) -> None:
        self._broker = broker
        self._process = process

    def send(self, records: Iterable[Outgoing]) -> list[Delivery]:
        """As ConfirmedProducer.send."""

        def away() -> Exception:
            return DeliveryFailed("the broker is away", retriable=True)

        self._process.point(away)
        found = []
        for item in list(records):
            record = self._broker.append(item.topic, item.key, item.value, item.headers, item.partition)
            found.append(Delivery(record.topic, record.partition, record.offset, record.timestamp_ms))
            self._process.point(away)
        return found

    def submit(self, record: Outgoing) -> Future[Delivery]:
        """As ConfirmedProducer.submit: for progress, which nobody misses."""
        future: Future[Delivery] = Future()
        future.set_result(Delivery(record.topic, 0, 0, 0))
        return future
