"""What an index worker is made of, for the generation it feeds: the live one, or one beside it.

Before this: `bootstrap.py`. After this: `steps/index.py`. A worker is made for one standing of the generations,
and ends cleanly when that standing changes: its supervisor starts it anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from weaviate.client import WeaviateClient

from runtime.embedding.select import embedder_of
from runtime.metrics import Metrics
from runtime.settings import Settings
from runtime.weaviate import AWAY, connect
from schemas.codec import Codec
from schemas.index.contract import Generation
from schemas.lanes import Lane
from streams import generations
from streams.adapters.outbox import KafkaOutbox, QuietOutbox
from streams.adapters.vector_log import KafkaVectorLog, Patience
from streams.adapters.weaviate_index import WeaviateIndex
from streams.generations import Standing
from streams.ports import Clock, Outbox, Step
from streams.steps.beside import BesideStep
from streams.steps.index import IndexStep

log = structlog.get_logger()

_HISTORY_S = 60.0
"""A side worker gives up on the history of vectors when nothing of it has come for so long."""

_OTHERS_S = 10.0
"""How long a side worker waits for a vector that the live generation's worker is about to compute."""


class NotBeside(Exception):
    """There is no such generation beside the live one: it was removed, or went live."""


@dataclass
class IndexParts:
    """A worker's step, and what goes with it."""

    step: Step
    outbox: KafkaOutbox | None
    close: Callable[[], None]


def index_parts(
    *,
    settings: Settings,
    codec: Codec,
    outbox: KafkaOutbox,
    counters: Metrics,
    clock: Clock,
    instance: str,
    generation: str | None,
    lane: Lane | None,
    name: str,
    end: Callable[[], None],
) -> IndexParts:
    """The parts for the live generation, or for the one named. lane, name: as IndexStep has them.

    end: ends the process, called from a thread.

    Raises NoLiveGeneration, NotBeside, WrongModel, EmbeddingMisconfigured, and what cannot be reached.
    """
    client = connect(settings.weaviate)
    standing = generations.standing(client)
    logs: dict[str, KafkaVectorLog] = {}

    def step(
        target: Generation, tells: Outbox, vectors: KafkaVectorLog, leading: Generation | None = None
    ) -> IndexStep:
        embedder = embedder_of(target.embedding, settings.embedding)
        return IndexStep(
            codec=codec,
            index=WeaviateIndex(client, target),
            embedder=embedder,
            sends_out=embedder.fingerprint.provider != "local" and not settings.embedding.trusted,
            outbox=tells,
            clock=clock,
            metrics=counters,
            generation=target.name,
            parameters=generations.parameters_of(target),
            vector_log=vectors,
            leading=WeaviateIndex(client, leading) if leading else None,
            lane=lane,
            name=name,
        )

    def vectors_of(target: Generation, patience: Patience | None = None) -> KafkaVectorLog:
        """One log for each model: what one step computed, the other of the same model finds."""
        if target.model not in logs:
            logs[target.model] = KafkaVectorLog(
                settings.kafka.bootstrap,
                codec,
                settings.home / "vectors" / (f"{instance}.sqlite" if not logs else f"{instance}.joining.sqlite"),
                model=target.model,
                dimension=target.dimension,
                patience=patience,
            )
            logs[target.model].start()
        return logs[target.model]

    def quiet(vectors: KafkaVectorLog) -> QuietOutbox:
        return QuietOutbox(outbox.producer, codec, stage=name, computed=vectors.keep)

    made: Step
    mine: KafkaOutbox | None = None
    if generation is not None:
        target = standing.others.get(generation)
        if target is None:
            raise NotBeside(f"no generation {generation} beside the live one, {standing.live}")
        same = target.model == standing.live_generation.model
        vectors = vectors_of(target, Patience(_HISTORY_S, _OTHERS_S if same else 0.0))
        mine = quiet(vectors)
        made = step(target, mine, vectors, standing.live_generation)
    else:
        target, joining = standing.live_generation, standing.joining(clock.now_ms())
        made = step(target, outbox, vectors_of(target))
        if joining is not None:
            beside = vectors_of(joining)
            made = BesideStep(made, step(joining, quiet(beside), beside))
    stopping = _watch(client, clock, _outlook(standing, clock, generation), generation, end)

    def close() -> None:
        stopping.set()
        for vectors in logs.values():
            vectors.close()
        client.close()

    return IndexParts(made, mine, close)


def _outlook(standing: Standing, clock: Clock, generation: str | None) -> tuple[str | int | None, ...]:
    """All of a standing that a worker's make-up depends on.

    When joining ends is part of it, so that each promotion makes all workers start anew: that is how it sees, by their
    new member ids, that they have read what it noted.
    """
    if generation is not None:
        return (standing.live, generation if generation in standing.others else None)
    joining = standing.joining(clock.now_ms())
    if joining is None:
        return (standing.live,)
    return (standing.live, joining.name, standing.lives[joining.name].joining_until_ms)


def _watch(
    client: WeaviateClient,
    clock: Clock,
    known: tuple[str | int | None, ...],
    generation: str | None,
    end: Callable[[], None],
    *,
    every_s: float = 1.0,
) -> threading.Event:
    """Call `end` once, from a thread, when the outlook is another one; the event stops the thread."""
    stopping = threading.Event()

    def look() -> None:
        while not stopping.wait(every_s):
            try:
                now = _outlook(generations.standing(client), clock, generation)
            except (*AWAY, generations.NoLiveGeneration):
                continue
            if now != known:
                log.info("generations_changed", before=known, now=now)
                end()
                return

    threading.Thread(target=look, name="generations-watch", daemon=True).start()
    return stopping
