"""A worker's loop and step: the real ones, on simulated ports.

Before this: `outside.py`, `store.py`, `broker.py`. After this: `world.py` runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, cast

from runtime.blobs import BlobStore
from runtime.producer import ConfirmedProducer
from streams.adapters.outbox import KafkaOutbox
from streams.adapters.runner import Loop
from streams.core.budget import LetterBudget
from streams.core.chunking import ChunkingParameters
from streams.parsing.pool import ParserPool
from streams.steps.capture import CapturedSource, CaptureStep
from streams.steps.index import IndexStep
from streams.steps.parse import ParseStep
from tests.simulation.broker import SimulatedProducer
from tests.simulation.judge import Broken
from tests.simulation.outside import Blobs, Clock, Pool, Rows, VectorLog, folder
from tests.simulation.process import Process
from tests.simulation.sources import SPECS, tenant_of
from tests.simulation.store import SimulatedModel, SimulatedStore
from tests.support.unprotected import unprotected

if TYPE_CHECKING:
    from tests.simulation.world import World

SMALL = ChunkingParameters(most=160)


def loop_of(world: World, stage: str, process: Process) -> Loop:
    """The loop and step of a stage's worker."""
    producer = cast(ConfirmedProducer, SimulatedProducer(world.broker, process))
    outbox = KafkaOutbox(producer, world.codec, stage="index" if stage == "bulk" else stage)
    step: Any
    if stage == "capture":
        sources = {spec.topic: CapturedSource(tenant_of(spec), spec) for spec in SPECS.values()}
        step = CaptureStep(
            world.codec, outbox, Rows(world, process), Clock(world), sources, lambda: sources, unprotected
        )
    elif stage == "parse":
        blobs, pool = cast(BlobStore, Blobs(world, process)), cast(ParserPool, Pool(process))
        step = ParseStep(world.codec, blobs, pool, outbox, Clock(world), folder(), 10.0, unprotected)
    else:
        answered, asked, known = _watch(world, process)
        step = IndexStep(
            codec=world.codec,
            index=SimulatedStore(world.stores, process, world.judge.look, answered),
            embedder=SimulatedModel(process, asked),
            outbox=outbox,
            clock=Clock(world),
            metrics=world.metrics,
            generation="simulated",
            parameters=SMALL,
            vector_log=VectorLog(world, process, known) if world.shape.drain % 2 else None,
            slice_texts=world.shape.slice_texts,
        )
    return Loop(
        step=step,
        outbox=outbox,
        metrics=world.metrics,
        attempts=8,
        retry_max_s=30.0,
        budget=LetterBudget(1_000, 10_000),
        abort=process.abort,
        sleep=process.sleep,
        monotonic=lambda: world.ms / 1000,
        jitter=lambda: 0.5,
    )


def _watch(
    world: World, process: Process
) -> tuple[
    Callable[[str, Collection[str], Collection[str]], None],
    Callable[[str], None],
    Callable[[Collection[str]], None],
]:
    """A process may embed only what index and log did not hold when it asked, and nothing twice in its life."""
    missing: dict[str, str] = {}
    done: set[tuple[str, str]] = set()

    def answered(tenant: str, asked: Collection[str], had: Collection[str]) -> None:
        missing.clear()
        missing.update({hashed: tenant for hashed in asked if hashed not in had})

    def asked(hashed: str) -> None:
        tenant = missing.get(hashed)
        if tenant is None:
            raise Broken(f"{process.name} embeds a text that the index holds")
        if (tenant, hashed) in done:
            raise Broken(f"{process.name} embeds a text for the second time")
        done.add((tenant, hashed))
        world.counts["embedded"] += 1

    def known(hashes: Collection[str]) -> None:
        for hashed in hashes:
            missing.pop(hashed, None)

    return answered, asked, known
