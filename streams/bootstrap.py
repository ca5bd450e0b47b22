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
from typing import TYPE_CHECKING

import structlog

from runtime.clock import now_ms
from runtime.embedding.select import configured_fingerprint
from runtime.metrics import Metrics, metrics, total
from runtime.producer import ConfirmedProducer
from runtime.settings import Settings
from runtime.topics import BrokerUnavailable, Topics
from schemas.codec import Codec
from schemas.index.contract import Generation
from schemas.registry import Registry
from streams.adapters import probe
from streams.adapters.letter_log import LetterLog
from streams.adapters.outbox import KafkaOutbox
from streams.adapters.runner import Assignment, Loop, build_app, run
from streams.adapters.watchdog import Watchdog
from streams.core.budget import HOUR_S, LetterBudget
from streams.core.chunking import ChunkingParameters
from streams.core.letters import Letter
from streams.pipeline import Stage, stage
from streams.ports import Step

if TYPE_CHECKING:
    from weaviate.client import WeaviateClient

log = structlog.get_logger()

LETTER_HEADROOM = 1_048_576
"""Bytes; the topic `dead-letters` takes as much more than the others."""


class WallClock:
    """Clock on the machine's time."""

    def now_ms(self) -> int:
        """As Clock.now_ms."""
        return now_ms()


class WrongModel(Exception):
    """The live generation was made with another model than the settings name."""


@dataclass
class _Parts:
    """What a stage's step is made of, and what is to be closed after it."""

    step: Step
    topics: tuple[str, ...]
    closing: list[Callable[[], object]]


def wanted_generation(settings: Settings) -> Generation:
    """The generation that these settings would make."""
    fingerprint = configured_fingerprint(settings.embedding)
    return Generation(fingerprint.key(), fingerprint.dimension, ChunkingParameters().fingerprint)


def work(name: str, settings: Settings, *, instance: str | None = None) -> None:
    """Run one worker of a stage until a signal ends it. instance: its name in the group, the same after a restart.

    A worker that is killed and started again under its name gets its partitions back at once, without waiting for the
    session to end. Raises the errors of what cannot be reached at start.
    """
    declared = stage(name)
    instance = instance or f"{name}-{socket.gethostname()}-1"
    codec = Codec(Registry(settings.registry.url))
    counters = metrics()
    with ConfirmedProducer(
        settings.kafka.bootstrap,
        client_id=f"thalweg-{instance}",
        # A dead letter of the largest record is larger than it by the headers that say why.
        message_max_bytes=settings.kafka.message_max_bytes + LETTER_HEADROOM,
        timeout_s=settings.kafka.request_timeout_s,
    ) as producer:
        outbox = KafkaOutbox(producer, codec, stage=name)
        parts = _PARTS[name](declared, settings, codec, outbox, counters)
        lately = recent_letters(settings, name)
        now, now_s = now_ms(), time.monotonic()
        budget = LetterBudget(
            settings.stage.dead_letters_per_minute,
            settings.stage.dead_letters_per_hour,
            [now_s - (now - letter.at_ms) / 1000 for letter in lately],
        )
        counters.dead_letter_budget.labels(name).set(budget.left(now_s))
        loop = Loop(
            step=parts.step,
            outbox=outbox,
            metrics=counters,
            attempts=settings.stage.attempts,
            retry_max_s=settings.stage.retry_max_s,
            budget=budget,
            abort=_abort,
            parked={(letter.rejected, letter.rejected_ms) for letter in lately},
        )
        app = build_app(
            group=declared.group,
            topics=parts.topics,
            loop=loop,
            settings=settings,
            batch=min(declared.batch, settings.index.batch_documents) if name == "index" else declared.batch,
            lookahead=declared.lookahead,
            within_s=settings.index.batch_within_s,
            instance=instance,
            lasting=declared.lasting,
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
            lags = broker.lag(declared.group, parts.topics)
            return {
                (lag.topic, lag.partition): (lag.committed, broker.count_data(lag))
                for lag in lags
                if (lag.topic, lag.partition) in mine
            }

        Watchdog(
            joined=lambda: instance in broker.members(declared.group),
            pending=pending,
            work=lambda: total(counters.embedding_texts) + total(counters.documents),
            waiting=lambda: loop.waiting,
            abort=_abort,
            limit_s=settings.stage.watchdog_s,
        ).start()
        port = probe.serve(settings.metrics.host, settings.metrics.port, counters.registry, ready)
        log.info("worker_started", stage=name, instance=instance, topics=list(parts.topics), metrics_port=port)
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


def _capture(declared: Stage, settings: Settings, codec: Codec, outbox: KafkaOutbox, _: Metrics) -> _Parts:
    from streams.adapters.sources import PostgresRows, SourceList
    from streams.steps.capture import CaptureStep

    sources = SourceList(settings.kafka.bootstrap, codec, Topics(settings.kafka.bootstrap))
    known = sources.start(settings.kafka.request_timeout_s)
    sources.watch(known, lambda: os.kill(os.getpid(), signal.SIGTERM))
    dsn = settings.postgres.dsn.get_secret_value() if settings.postgres.dsn else None
    step = CaptureStep(codec, outbox, PostgresRows(dsn), WallClock(), known)
    return _Parts(step, (*declared.reads, *known), [sources.close])


def _parse(declared: Stage, settings: Settings, codec: Codec, outbox: KafkaOutbox, _: Metrics) -> _Parts:
    from runtime.blobs import BlobStore
    from streams.parsing.pool import ParserPool
    from streams.steps.parse import ParseStep

    pool = ParserPool(
        processes=settings.parse.processes,
        memory_bytes=settings.parse.memory_bytes,
        max_text_bytes=settings.parse.max_text_bytes,
    )
    step = ParseStep(
        codec=codec,
        blobs=BlobStore(settings.blobs_url),
        pool=pool,
        log=outbox,
        clock=WallClock(),
        folder=settings.spool,
        deadline_s=settings.parse.timeout_s,
    )
    return _Parts(step, declared.reads, [])


def _index(declared: Stage, settings: Settings, codec: Codec, outbox: KafkaOutbox, counters: Metrics) -> _Parts:
    from runtime.embedding.select import embedder_from
    from runtime.weaviate import connect
    from streams.adapters.weaviate_index import WeaviateIndex
    from streams.steps.index import IndexStep

    client = connect(settings.weaviate)
    generation = live_generation(client, settings)
    step = IndexStep(
        codec=codec,
        index=WeaviateIndex(client, generation),
        embedder=embedder_from(settings.embedding),
        outbox=outbox,
        clock=WallClock(),
        metrics=counters,
        generation=generation.name,
    )
    return _Parts(step, declared.reads, [client.close])


def live_generation(client: WeaviateClient, settings: Settings) -> Generation:
    """The live generation, if the configured model made it. Raises WrongModel, NoLiveGeneration."""
    from streams import generations

    generation = generations.live(client)
    wanted = wanted_generation(settings)
    if (generation.model, generation.chunker) != (wanted.model, wanted.chunker):
        raise WrongModel(
            f"the live generation {generation.name} was made with {generation.model} and {generation.chunker}; the "
            f"settings name {wanted.model} and {wanted.chunker}. Vectors of two models cannot be compared: set the "
            "model back, or rebuild"
        )
    return generation


_PARTS: dict[str, Callable[[Stage, Settings, Codec, KafkaOutbox, Metrics], _Parts]] = {
    "capture": _capture,
    "parse": _parse,
    "index": _index,
}
