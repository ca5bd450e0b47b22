"""Faust's Kafka transport, made fair: of several topics each has its turn, however much of one has been fetched.

A flood in one topic arrives in one fetch, and aiokafka hands over all of it before it fetches the others again: a
published load of 10,000 events held every row change back until the last of them was through. Here each topic gives a
bounded number of records a turn; what more was fetched waits in aiokafka's buffer, where it hinders no other partition.
Between turns it may have to rest: a load then leaves the machine's time to the stages behind, for single edits.

And a fetch waits at the broker for a moment only. aiokafka has one fetch to a broker under way, for the partitions that
it holds no records of; what comes into another one meanwhile is fetched when that fetch is back, and Faust lets it wait
for a second and a half.

And what a stage passes over does not go through Faust, which takes 0.2 ms for each record: a worker of the live lane
fell behind over a load that is not its own (`core/reading.py`).

Before this: aiokafka's buffers. After this: Faust, which takes the topics of one turn in rotation.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

import faust
import structlog
from aiokafka.errors import IllegalStateError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP

from schemas.headers import Headers
from streams.core.reading import Partition, Passing, Turns

A_TURN = 100
"""Records of one topic at a time."""

PASSED_S = 1.0
"""So often what was passed over is acknowledged."""

WAIT_MS = 100
"""Longest wait of a fetch at the broker; as many fetches come of it while nothing happens."""

log = structlog.get_logger(__name__)
ToCome = Callable[[Partition, int, int], int]


class _FairThread(AIOKafkaConsumerThread):
    @property
    def _fair(self) -> _FairTransport:
        return cast(_FairTransport, self.consumer.transport)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._fair.passing.forget()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._fair.passing.forget()
        await super().on_partitions_assigned(assigned, generation_id)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        self._fair.passing.forget()
        committed = await super().seek_to_committed()
        self._fair.passing.forget()  # what a fetch brought meanwhile is of before for some partitions
        return committed

    async def _seek_wait(self, consumer: Any, partitions: Mapping[TP, int]) -> None:
        self._fair.passing.forget()
        await super()._seek_wait(consumer, partitions)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = WAIT_MS  # Faust has no setting for it
        return consumer

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  Faust's own signature
        max_records: int | None = None,
    ) -> Mapping[TP, list[Any]]:
        del max_records  # of all topics together: one of them would have it all
        turns, began = self._fair.turns, time.monotonic()
        by_topic: defaultdict[str, set[TP]] = defaultdict(set)
        for place in active_partitions:
            by_topic[place.topic].add(place)
        resting = turns.resting(by_topic, began)
        found: dict[TP, list[Any]] = {}
        for topic in by_topic.keys() - resting:
            found |= await super()._fetch_records(consumer, by_topic[topic], 0, A_TURN)
        if not found:
            awaited = {place for place in active_partitions if place.topic not in resting}
            wait_s = min([timeout or 0.0, *resting.values()])
            if awaited:
                found |= await super()._fetch_records(consumer, awaited, wait_s, A_TURN)
            else:
                await asyncio.sleep(wait_s)
        for place, records in found.items():
            turns.gave(place.topic, len(records), began)
        return self._fair.passing.let_through(found, time.monotonic())


class _FairConsumer(Consumer):
    """Sees to it that no record gets lost between Kafka and the stage, however partitions come and go meanwhile.

    Faust takes each jump of offsets for a gap in the log and acknowledges what is missing. But in a rebalance it lets
    records fall: of a fetch that began before it, of a partition that is paused for a moment. That it reads again from
    what is committed mostly mends it, not always: a worker that had stood still beyond its session came back, and one
    record of its first fetch was acknowledged unseen. So a jump must be one that the reading knows of; else the
    partition is read again from the first record that is missing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._next: dict[TP, int] = {}
        self._read_again: dict[TP, int] = {}

    @property
    def _passing(self) -> Passing[TP, Any]:
        return cast(_FairTransport, self.transport).passing

    def _new_consumer_thread(self) -> _FairThread:
        return _FairThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        await super().perform_seek()
        self._next = {place: offset for place, offset in self._read_offset.items() if offset is not None}
        self._read_again.clear()

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109  Faust's own signature
        again: set[TP] = set()
        async for place, message in super().getmany(timeout):
            if place in again or await self._is_lost_before(place, message.offset):
                again.add(place)
                continue
            if message.offset < self._next.get(place, 0):
                continue  # handed over before
            self._next[place] = message.offset + 1
            # All that Faust is to know of gaps it was told: of this record it sees none.
            self._read_offset[place] = message.offset
            yield place, message
        for place, expected in list(self._next.items()):
            if self._passing.behind(place) > expected:  # what is missing was the last that there is
                await self._from(place, expected)

    async def _is_lost_before(self, place: TP, offset: int) -> bool:
        """True if records before this one are missing: they are read again. What only seems missing is acknowledged."""
        since, expected = self._passing.since(place, offset), self._next.get(place)
        if expected is None or offset <= expected:
            return False
        # Read from there already, and nothing was there: the log does not hold it any more.
        if since > expected and self._read_again.get(place) != expected:
            await self._from(place, expected)
            return True
        await self._add_gap(place, expected, offset - 1)
        return False

    async def _from(self, place: TP, offset: int) -> None:
        if not self.flow_active or place not in self.assignment():
            return  # a rebalance is under way: it ends with `perform_seek`
        log.warning("read_again", topic=place.topic, partition=place.partition, offset=offset)
        self._read_again[place] = offset
        with contextlib.suppress(IllegalStateError):  # taken away just now
            await self.seek_wait({place: offset})


class _FairTransport(Transport):
    Consumer = _FairConsumer
    turns: Turns
    passing: Passing[TP, Any]


def read_fairly(app: faust.App, wanted: Callable[[Headers], bool] | None, per_second: float | None) -> ToCome:
    """Let an app that was not started yet read its topics in turns. Arguments: as `Passing` and `Turns` have them.

    Returns what tells how many records behind an offset and before an end may still come, as `Gathering` asks it.
    """
    app.transport = transport = _FairTransport(app.conf.broker_consumer, app)
    transport.turns = Turns(per_second)
    transport.passing = Passing(wanted, PASSED_S)
    return transport.passing.to_come
