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
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, cast

import faust
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
    def _new_consumer_thread(self) -> _FairThread:
        return _FairThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109  Faust's own signature
        async for place, message in super().getmany(timeout):
            # Faust sees no gap behind offset 0, and would never acknowledge anything beyond it.
            if self._read_offset[place] == 0 and message.offset > 1:
                await self._add_gap(place, 1, message.offset - 1)
            yield place, message


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
