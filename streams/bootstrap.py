"""The composition root of the workers: settings to adapters, adapters to a step, the step to Faust.

What only one stage needs is imported in that stage's function: a worker starts as fast as its own parts load.

Before this: `commands.py`. After this: everything in `steps/` and `adapters/`. The only place that knows all of them.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from runtime.clock import now_ms
from runtime.directory import Directory
from runtime.metrics import Metrics, metrics, total
from runtime.privacy.sealing import Seals
from runtime.producer import ConfirmedProducer
from runtime.settings import Settings
from runtime.topics import BrokerUnavailable, Topics
from schemas.codec import Codec
from schemas.lanes import Lane
from schemas.registry import Registry
from streams.adapters import probe
from streams.adapters.letter_log import LetterLog
from streams.adapters.outbox import KafkaOutbox
from streams.adapters.policies import PolicyList
from streams.adapters.runner import Assignment, Loop, build_app, run
from streams.adapters.watchdog import Watchdog
from streams.core.budget import HOUR_S, LetterBudget
from streams.core.lanes import LaneRules
from streams.core.letters import HEADROOM, Letter
from streams.pipeline import Stage, side_group, stage
from streams.ports import Step
from streams.steps.protection import Protection

log = structlog.get_logger()


class WallClock:
    """Clock on the machine's time."""

    def now_ms(self) -> int:
        """As Clock.now_ms."""
        return now_ms()


@dataclass
class _Parts:
    """What a stage's step is made of, and what is to be closed after it.

    outbox: where the loop parks, if not where others do.
    """

    step: Step
    topics: tuple[str, ...]
    closing: list[Callable[[], object]]
    outbox: KafkaOutbox | None = None


@dataclass(frozen=True)
class _Given:
    """What every stage's parts are made from. generation: the one beside the live one that the worker is for."""

    declared: Stage
    settings: Settings
    codec: Codec
    outbox: KafkaOutbox
    counters: Metrics
    instance: str
    generation: str | None

    @property
    def lane(self) -> Lane | None:
        """The only one that is read; a side worker reads all, for its group is the generation's only one."""
        return self.declared.lane if self.generation is None else None


def work(name: str, settings: Settings, *, instance: str | None = None, generation: str | None = None) -> None:
    """Run one worker of a stage until a signal ends it. instance: its name in the group, the same after a restart.

    A worker that is killed and started again under its name gets its partitions back at once, without waiting for the
    session to end. generation: of the index stage, one that is not live, fed by a group of its own; the worker ends by
    itself when that generation goes live or away. Raises the errors of what cannot be reached at start.
    """
    declared = stage(name)
    if declared.lane is Lane.BULK or generation is not None:
        os.nice(settings.lanes.bulk_nice)
    group = declared.group if generation is None else side_group(generation)
    named = name if generation is None else f"{name}-{generation}"
    instance = instance or f"{named}-{socket.gethostname()}-1"
    codec = Codec(Registry(settings.registry.url))
    counters = metrics()
    with ConfirmedProducer(
        settings.kafka.bootstrap,
        client_id=f"thalweg-{instance}",
        message_max_bytes=settings.kafka.message_max_bytes + HEADROOM,
        timeout_s=settings.kafka.request_timeout_s,
    ) as producer:
        outbox = KafkaOutbox(producer, codec, stage=name)
        given = _Given(declared, settings, codec, outbox, counters, instance, generation)
        parts = _PARTS[name](given)
        lately = recent_letters(settings, name)
        now_s = time.monotonic()
        budget = LetterBudget.after(
            (letter.at_ms for letter in lately),
            settings.stage.dead_letters_per_minute,
            settings.stage.dead_letters_per_hour,
            now_ms=now_ms(),
            now=now_s,
        )
        counters.dead_letter_budget.labels(name).set(budget.left(now_s))
        loop = Loop(
            step=parts.step,
            outbox=parts.outbox or outbox,
            metrics=counters,
            attempts=settings.stage.attempts,
            retry_max_s=settings.stage.retry_max_s,
            budget=budget,
            abort=_abort,
            parked={(letter.rejected, letter.rejected_ms) for letter in lately},
        )
        app = build_app(
            group=group,
            topics=parts.topics,
            loop=loop,
            settings=settings,
            batch=min(declared.batch, settings.index.batch_documents) if declared.lane else declared.batch,
            lookahead=declared.lookahead,
            within_s=settings.index.batch_within_s,
            instance=instance,
            # One that is started for a while must not be missed for a session's time once it is gone.
            lasting=declared.lasting and generation is None,
            lane=given.lane,
            per_second=settings.lanes.load_per_second if declared.row_changes else None,
        )
        assignment = Assignment()
        assignment.follow(app)

        def ready() -> str | None:
            if loop.stands_still is not None:
                return loop.stands_still
            return None if assignment.places else "no partition assigned yet"

        broker = Topics(settings.kafka.bootstrap)

        def pending() -> dict[tuple[str, int], tuple[int | None, int]]:
            mine = assignment.places
            lags = broker.lag(group, parts.topics)
            return {
                (lag.topic, lag.partition): (lag.committed, broker.count_data(lag))
                for lag in lags
                if (lag.topic, lag.partition) in mine
            }

        Watchdog(
            joined=lambda: instance in broker.members(group),
            pending=pending,
            work=lambda: total(counters.embedding_texts) + total(counters.documents),
            waiting=lambda: loop.waiting,
            abort=_abort,
            limit_s=settings.stage.watchdog_s,
        ).start()
        port = probe.serve(settings.metrics.host, settings.metrics.port, counters.registry, ready)
        log.info(
            "worker_started", stage=name, instance=instance, group=group, topics=list(parts.topics), metrics_port=port
        )
        try:
            run(app)
        finally:
            for close in parts.closing:
                close()


def recent_letters(settings: Settings, name: str) -> list[Letter]:
    """The letters of a stage's last hour, as far as they can be read within half a minute: with what it wrote before a
    restart it has used up its budget, and what is parked already is not parked again.
    """
    since_ms = now_ms() - int(HOUR_S * 1000)
    try:
        with LetterLog(settings.kafka.bootstrap, timeout_s=settings.kafka.request_timeout_s) as letters:
            return [letter for letter in letters.read(since_ms=since_ms) if letter.stage == name]
    except BrokerUnavailable as error:
        log.warning("letters_not_read", reason=str(error)[:200])
        return []


def _abort(why: str) -> None:
    log.critical("stopping", why=why)
    sys.stdout.flush()
    os._exit(70)


def _capture(given: _Given) -> _Parts:
    from streams.adapters.sources import PostgresRows, SourceList
    from streams.steps.capture import CaptureStep

    settings, codec = given.settings, given.codec
    sources = SourceList(settings.kafka.bootstrap, codec, Topics(settings.kafka.bootstrap))
    known = sources.start(settings.kafka.request_timeout_s)
    sources.watch(known, _end_cleanly)
    dsn = settings.postgres.dsn.get_secret_value() if settings.postgres.dsn else None
    policies, protection = _protection(given)
    step = CaptureStep(
        codec, given.outbox, PostgresRows(dsn), WallClock(), known, sources.now, protection.now, lane_rules(settings)
    )
    return _Parts(step, (*given.declared.reads, *known), [sources.close, policies.close])


def _parse(given: _Given) -> _Parts:
    from runtime.blobs import BlobStore
    from runtime.leftovers import clear
    from streams.parsing.pool import ParserPool
    from streams.steps.parse import WORK, ParseStep

    settings = given.settings
    pool = ParserPool(
        processes=settings.parse.processes,
        memory_bytes=settings.parse.memory_bytes,
        max_text_bytes=settings.parse.max_text_bytes,
    )
    policies, protection = _protection(given)
    clear(settings.spool, f"{WORK}*")  # the files that killed workers were parsing
    step = ParseStep(
        codec=given.codec,
        blobs=BlobStore(settings.blobs_url),
        pool=pool,
        log=given.outbox,
        clock=WallClock(),
        folder=settings.spool,
        deadline_s=settings.parse.timeout_s,
        protection=protection.now,
        lanes=lane_rules(settings),
    )
    return _Parts(step, given.declared.reads, [policies.close])


def _protection(given: _Given) -> tuple[PolicyList, Protection]:
    """What the policies make of changes; they are followed from now on. Raises BrokerUnavailable."""
    kafka, privacy = given.settings.kafka, given.settings.privacy
    policies = PolicyList(Directory(kafka.bootstrap, given.codec), Topics(kafka.bootstrap))
    policies.start(kafka.request_timeout_s)
    mask_key = privacy.mask_key.get_secret_value() if privacy.mask_key else None
    return policies, Protection(policies, mask_key, Seals(privacy.sealing))


def _index(given: _Given) -> _Parts:
    from streams.index_parts import index_parts

    made = index_parts(
        settings=given.settings,
        codec=given.codec,
        outbox=given.outbox,
        counters=given.counters,
        clock=WallClock(),
        instance=given.instance,
        generation=given.generation,
        end=_end_cleanly,
        lane=given.lane,
        name=given.declared.name,
    )
    return _Parts(made.step, given.declared.reads, [made.close], made.outbox)


def _end_cleanly() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def lane_rules(settings: Settings) -> LaneRules:
    """What parts bulk from live, as the settings say; nothing is used up yet."""
    given = settings.lanes
    return LaneRules(large_text=given.large_text, burst=given.burst, per_second=given.per_second)


_PARTS: dict[str, Callable[[_Given], _Parts]] = {
    "capture": _capture,
    "parse": _parse,
    "index": _index,
    "index-bulk": _index,
}
