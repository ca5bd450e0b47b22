"""Faust as the reader of a stage, and no more: batches in, outcomes to acknowledgements, waits and dead letters.

Before this: `pipeline.py` says what a stage reads. After this: the stage's step. Everything here follows from how
Faust 0.15.3 behaves (ARCHITECTURE.md, "Faust"): it acknowledges a message whose handler raised, and its commit skips
a gap at the head. Hence one ordered unit in flight, acknowledged in order, and nothing leaves the loop's body.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import faust
import structlog
from faust.exceptions import ConsumerNotStarted
from mode import CrashingSupervisor

from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.adapters.outbox import KafkaOutbox
from streams.core.outcomes import PASSED_OVER, Done, Outcome, Rejected, Retry
from streams.ports import Inbound, PermanentFailure, Step, TemporaryFailure

log = structlog.get_logger()


@dataclass
class Loop:
    """Drives a step: hands in batches until every record is settled, parks what is rejected. Knows nothing of Faust.

    Stops the process (through `abort`) when more records a minute are rejected than the limit: a bad deploy must not
    drain a topic into the dead letters.
    """

    step: Step
    outbox: KafkaOutbox
    metrics: Metrics
    attempts: int
    retry_max_s: float
    dead_letters_per_minute: int
    abort: Callable[[str], None]
    sleep: Callable[[float], Any] = asyncio.sleep
    monotonic: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    waiting: bool = False
    _parked: deque[float] = field(default_factory=deque)

    async def settle(self, batch: Sequence[Inbound]) -> None:
        """Return when each record is durable downstream or parked. Waits as long as what we stand on is away."""
        waiting = list(batch)
        tries = 0
        while waiting:
            outcomes = await self.step.handle(waiting)
            left: list[Inbound] = []
            pause, cause = 0.0, ""
            for record, outcome in zip(waiting, outcomes, strict=True):
                settled = await self._settle(record, outcome, tries)
                if isinstance(settled, Retry):
                    left.append(record)
                    pause, cause = max(pause, settled.after_s or 0.0), settled.cause
            if left:
                tries += 1
                backoff = min(self.retry_max_s, 0.1 * 2 ** min(tries, 12)) * (0.5 + self.jitter())
                log.warning("retrying", stage=self.step.name, records=len(left), tries=tries, cause=cause)
                self.waiting = True
                await self.sleep(max(pause, backoff))
                self.waiting = False
            waiting = left

    async def _settle(self, record: Inbound, outcome: Outcome, tries: int) -> Outcome:
        match outcome:
            case Done(label):
                if outcome != PASSED_OVER:
                    self.metrics.documents.labels(stage=self.step.name, outcome=label).inc()
                return outcome
            case Retry(cause, _, limited):
                if not limited or tries + 1 < self.attempts:
                    return outcome
                return await self._park(record, Rejected("unexpected", cause))
            case Rejected():
                return await self._park(record, outcome)

    async def _park(self, record: Inbound, outcome: Rejected) -> Outcome:
        now = self.monotonic()
        while self._parked and self._parked[0] < now - 60:
            self._parked.popleft()
        self._parked.append(now)
        if len(self._parked) > self.dead_letters_per_minute:
            self.abort(f"more than {self.dead_letters_per_minute} dead letters in a minute; last: {outcome.reason}")
        try:
            await asyncio.to_thread(self.outbox.park, record, outcome)
            await self.step.failed(record, outcome)
        except (TemporaryFailure, PermanentFailure) as error:
            return Retry(f"dead letter not delivered: {error}")
        self.metrics.dead_letters.labels(stage=self.step.name, reason=outcome.reason).inc()
        self.metrics.documents.labels(stage=self.step.name, outcome="rejected").inc()
        log.warning(
            "parked", stage=self.step.name, topic=record.topic, partition=record.partition, offset=record.offset,
            reason=outcome.reason, detail=outcome.detail[:200],
        )  # fmt: skip
        return outcome


def build_app(
    *,
    group: str,
    topics: Sequence[str],
    loop: Loop,
    settings: Settings,
    batch: int,
    within_s: float,
    instance: str,
    lasting: bool,
) -> faust.App:
    """The Faust app that reads these topics for this group. `run` starts it."""
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
    channel = app.topic(*topics, key_serializer="raw", value_serializer="raw", allow_empty=True)

    async def read(stream: Any) -> None:
        async for events in stream.noack_take(batch, within=within_s):
            try:
                await loop.settle([_inbound(event.message) for event in events])
            except Exception:  # nothing may leave this body: Faust would acknowledge
                log.exception("stopping", stage=loop.step.name)
                os._exit(70)
            for event in events:
                await stream.ack(event)

    app.agent(channel, name=f"{loop.step.name}-reader", concurrency=1)(read)
    return app


def assigned(app: faust.App) -> set[tuple[str, int]]:
    """The (topic, partition) pairs that this worker reads now; none before its consumer runs."""
    try:
        return {(place.topic, place.partition) for place in app.consumer.assignment()}
    except ConsumerNotStarted:
        return set()


def run(app: faust.App) -> None:
    """Run the worker until a signal ends it. The current batch is finished first, for at most 25 s."""
    from faust.worker import Worker

    worker = Worker(
        app,
        quiet=True,
        loglevel="WARNING",
        redirect_stdouts=False,
        override_logging=False,
        loop=asyncio.new_event_loop(),
    )
    worker.execute_from_commandline()


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
        headers=tuple((str(key), bytes(value or b"")) for key, value in pairs),
    )
