"""Faust as the reader of a stage, and no more: batches in, outcomes to acknowledgements, waits and dead letters.

Before this: `pipeline.py` says what a stage reads. After this: the stage's step. Everything here follows from how
Faust 0.15.3 behaves (ARCHITECTURE.md, "Faust"): it acknowledges a message whose handler raised, and its commit skips
a gap at the head. Hence one ordered unit in flight, acknowledged in order, and nothing leaves the loop's body.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import faust
import structlog
from faust.types import TP
from mode import CrashingSupervisor

from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.tracebacks import named
from schemas.lanes import Lane
from schemas.registry import RegistryUnavailable
from streams.adapters.fair_reading import read_fairly
from streams.adapters.gathering import Gathering, units
from streams.core.budget import LetterBudget
from streams.core.letters import Place
from streams.core.outcomes import PASSED_OVER, Done, Outcome, Rejected, Retry
from streams.core.reading import Partition
from streams.ports import Inbound, Misconfigured, PermanentFailure, Step, TemporaryFailure

log = structlog.get_logger()


class Parking(Protocol):
    """Where rejected records go."""

    def park(self, record: Inbound, outcome: Rejected) -> None:
        """Delivered when the call returns. Raises TemporaryFailure, PermanentFailure."""
        ...


@dataclass
class Loop:
    """Drives a step: hands in batches until every record is settled, parks what is rejected. Knows nothing of Faust.

    A bad deploy must not drain a topic into the dead letters. When the budget is spent, the process stops (through
    `abort`), so that its supervisor or a person sees it and a better version can take its place. Where the budget was
    spent by an earlier life already, the loop stands still instead until there is room again: dying again and again
    would help nobody. Either way no record is parked beyond the budget, and none is acknowledged.

    parked: records (place and timestamp) that have their letter already, from an earlier life that did not come to
    acknowledge them.
    """

    step: Step
    outbox: Parking
    metrics: Metrics
    attempts: int
    retry_max_s: float
    budget: LetterBudget
    abort: Callable[[str], None]
    sleep: Callable[[float], Any] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    waiting: bool = False
    stands_still: str | None = None
    parked: set[tuple[Place, int]] = field(default_factory=set)
    _wrote: bool = False
    _patient: bool = False

    async def settle(self, batch: Sequence[Inbound]) -> None:
        """Return when each record is durable downstream or parked. Waits as long as what we stand on is away."""
        waiting = list(batch)
        tries = 0
        met: Counter[Place] = Counter()
        while waiting:
            outcomes = await self.step.handle(waiting)
            left: list[Inbound] = []
            pause, cause = 0.0, ""
            classes: set[str] = set()
            for record, outcome in zip(waiting, outcomes, strict=True):
                if outcome is PASSED_OVER:
                    continue  # a live worker reads a whole load of these: nothing more is done for them
                met[record.place] += isinstance(outcome, Retry) and outcome.limited
                settled = await self._settle(record, outcome, met[record.place])
                if isinstance(settled, Retry):
                    left.append(record)
                    pause, cause = max(pause, settled.after_s or 0.0), settled.cause
                    classes.add(settled.error_class)
            if left:
                tries += 1
                for name in classes:
                    self.metrics.retries.labels(self.step.name, name).inc()
                backoff = min(self.retry_max_s, 0.2 * 2 ** min(tries, 12)) * (0.5 + self.jitter() / 2)
                log.warning("retrying", stage=self.step.name, records=len(left), tries=tries, cause=cause)
                self.waiting = True
                await self.sleep(max(pause, backoff))
                self.waiting = False
            waiting = left
        self.parked -= {(record.place, record.timestamp_ms) for record in batch}

    async def _settle(self, record: Inbound, outcome: Outcome, tries: int) -> Outcome:
        match outcome:
            case Done(label):
                self.metrics.documents.labels(stage=self.step.name, outcome=label).inc()
                return outcome
            case Retry(cause, _, limited):
                if not limited or tries < self.attempts:
                    return outcome
                rejected = Rejected(outcome.reason, cause, defect=True, trace=outcome.trace)
                return await self._park(record, rejected)
            case Rejected():
                return await self._park(record, outcome)

    async def _park(self, record: Inbound, outcome: Rejected) -> Outcome:
        """The letter once, however often the word about it has to be tried."""
        try:
            if (record.place, record.timestamp_ms) not in self.parked:
                await self._wait_for_room(outcome)
                await asyncio.to_thread(self.outbox.park, record, outcome)
                self.parked.add((record.place, record.timestamp_ms))
                self._wrote = True
                self.budget.take(self.monotonic())
                self._count(record, outcome)
            await self.step.failed(record, outcome)
        except (TemporaryFailure, PermanentFailure) as error:
            return Retry(f"dead letter not delivered: {error}", configuration=isinstance(error, Misconfigured))
        except RegistryUnavailable as error:
            return Retry(f"dead letter not told: {error}")
        except Exception as error:
            log.exception("dead_letter_not_told", stage=self.step.name, place=str(record.place))
            if (record.place, record.timestamp_ms) not in self.parked:
                return Retry(f"dead letter not written: {named(error)}")
            # A defect of ours: the letter is there, only the word to whoever waits is missing.
        return outcome

    async def _wait_for_room(self, outcome: Rejected) -> None:
        while self.budget.left(self.monotonic()) == 0:
            self._show_budget()
            why = f"{self.budget.spent()}: the limit is reached, last: {outcome.reason}; see `thalweg dlq list`"
            if self._wrote and not self._patient:
                self.abort(why)
            self._patient = True
            if self.stands_still is None:
                log.critical("stands_still", stage=self.step.name, why=why)
            self.stands_still, self.waiting = why, True
            await self.sleep(5.0 * (0.5 + self.jitter()))
        self.stands_still, self.waiting = None, False

    def _count(self, record: Inbound, outcome: Rejected) -> None:
        self.metrics.dead_letters.labels(stage=self.step.name, reason=outcome.reason).inc()
        self.metrics.documents.labels(stage=self.step.name, outcome="rejected").inc()
        self._show_budget()
        log.warning(
            "parked", stage=self.step.name, topic=record.topic, partition=record.partition, offset=record.offset,
            reason=outcome.reason, detail=outcome.detail[:200],
        )  # fmt: skip

    def _show_budget(self) -> None:
        self.metrics.dead_letter_budget.labels(self.step.name).set(self.budget.left(self.monotonic()))


class Assignment:
    """The partitions (topic, number) that a worker reads now; any thread may look.

    Told by Faust's rebalance callbacks. Its consumer must not be asked: Faust makes it on first touch, bound to the
    event loop of the thread that touched it, and a probe that came early then broke the worker ("attached to a
    different loop").
    """

    def __init__(self) -> None:
        self.places: frozenset[tuple[str, int]] = frozenset()

    def follow(self, app: faust.App) -> None:
        """Listen to this app, which has not started yet."""

        async def assigned(_: Any, *places: Any, **__: Any) -> None:
            self.places = frozenset((place.topic, place.partition) for place in places[0])

        async def revoked(_: Any, *__: Any, **___: Any) -> None:
            self.places = frozenset()

        app.on_partitions_assigned.connect(cast("Any", assigned))
        app.on_partitions_revoked.connect(cast("Any", revoked))


def build_app(
    *,
    group: str,
    topics: Sequence[str],
    loop: Loop,
    settings: Settings,
    batch: int,
    lookahead: int,
    within_s: float,
    instance: str,
    lasting: bool,
    lane: Lane | None = None,
    per_second: float | None = None,
) -> faust.App:
    """The Faust app that reads these topics for this group. `run` starts it. lookahead, lane: as Stage has them.

    per_second: records of one topic that it reads at most; None: as many as come.
    """
    # One that does not keep its place is missed until its session ends; it holds no model and never stalls for long.
    session_s = settings.stage.session_timeout_s if lasting else min(10.0, settings.stage.session_timeout_s)
    datadir = settings.home / "faust" / instance  # nothing of ours lies there, but Faust wants it
    datadir.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        group,
        broker=f"kafka://{settings.kafka.bootstrap}",
        datadir=str(datadir),
        store="memory://",
        web_enabled=False,
        autodiscover=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        agent_supervisor=CrashingSupervisor,
        broker_client_id=instance,
        broker_commit_interval=0.5,
        broker_session_timeout=session_s,
        broker_heartbeat_interval=3.0,
        broker_request_timeout=session_s + 15.0,
        # A batch may wait for a store that is away; only the watchdog ends a worker that makes no progress.
        broker_max_poll_interval=86_400.0,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=settings.kafka.message_max_bytes,
        consumer_group_instance_id=instance if lasting else None,
        stream_buffer_maxsize=max(32, min(batch, 128)),
        stream_wait_empty=False,
    )
    to_come = read_fairly(app, None if lane is None else lambda headers: Lane.of(headers) is lane, per_second)
    channel = app.topic(*topics, key_serializer="raw", value_serializer="raw", allow_empty=True)

    async def read(stream: Any) -> None:
        takes = stream.noack_take(batch, within=within_s)
        gathering: Gathering[Any] = Gathering(
            takes,
            lambda event: event.message,
            lambda places: _ends(app, places),
            take=batch,
            most=lookahead,
            to_come=to_come,
        )
        while True:
            try:
                events = await gathering.next()
            except StopAsyncIteration:
                return
            try:
                for unit in units([_inbound(event.message) for event in events], batch):
                    await loop.settle(unit)
            except Exception:  # nothing may leave this body: Faust would acknowledge
                log.exception("stopping", stage=loop.step.name)
                os._exit(70)
            for event in events:
                await stream.ack(event)

    app.agent(channel, name=f"{loop.step.name}-reader", concurrency=1)(read)
    return app


def _ends(app: faust.App, places: Sequence[Partition]) -> dict[Partition, int]:
    """The next offset of each partition as the broker told it with the last records; none of one taken away.

    It is not asked anew: its answer would come behind the fetch that waits on the same connection for the next record,
    up to a second and a half later, and each live change would wait for that.
    """
    found: dict[Partition, int] = {}
    for place in places:
        with contextlib.suppress(AssertionError):  # aiokafka's, of a partition that is not assigned any more
            if end := app.consumer.highwater(TP(*place)):
                found[place] = end
    return found


def run(app: faust.App) -> None:
    """Run the worker until a signal ends it. The current batch is finished first, for at most 25 s.

    Raises SystemExit: 0 after a signal, 1 after a crash inside Faust, whose cause is logged (Faust keeps it to itself).
    """
    from faust.worker import Worker

    worker = Worker(
        app,
        quiet=True,
        loglevel="WARNING",
        redirect_stdouts=False,
        override_logging=False,
        loop=asyncio.new_event_loop(),
    )
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        cause = app.crash_reason or end.__context__
        if end.code and cause is not None:
            # Faust's own error, whatever it is: of a record nothing gets out of the reader's body.
            log.critical("reader_crashed", cause=f"{type(cause).__name__}: {cause}", exc_info=cause)
        raise


def _inbound(message: Any) -> Inbound:
    headers = message.headers or ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return Inbound(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=round((message.timestamp or 0) * 1000),
        key=message.key,
        value=message.value,
        headers=tuple((str(key), None if value is None else bytes(value)) for key, value in pairs),
    )
