"""Throughput: many new documents published at once, until the last one is searchable.

Before: a running stack, its queues empty. After: `__main__` prints the numbers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from connectors.publish import Following, follow_receipts, publish_events
from deploy.demo import corpus
from runtime.clock import now_ms
from runtime.producer import ConfirmedProducer
from runtime.settings import Settings
from schemas.codec import Codec
from schemas.records import Event
from schemas.registry import Registry

BASE = "bench"
CHARACTERS = 3_200
"""Of one document: about five chunks."""

LOAD_S = 600.0


@dataclass(frozen=True)
class Throughput:
    """What became searchable in how many seconds, from the first record sent to the last receipt."""

    documents: int
    chunks: int
    missing: int
    seconds: float
    documents_per_second: float
    chunks_per_second: float


def texts(count: int, seed: str) -> list[str]:
    """New texts of real sentences in an order of their own, so that no vector can be reused."""
    chance = random.Random(seed)  # a benchmark's texts are no secret
    sentences = [
        part for row in corpus.rows() for part in row.body.replace("\n", " ").split(". ") if 40 < len(part) < 300
    ]
    made = []
    for number in range(count):
        text = f"Document {number} of {seed}. "
        while len(text) < CHARACTERS:
            text += f"{' '.join(chance.choice(sentences).split())} ({chance.randrange(10**9)}). "
        made.append(text)
    return made


def measure(settings: Settings, *, documents: int, tell: Callable[[str], None]) -> Throughput:
    """Publish all at once and follow the receipts; the documents are deleted again."""
    run = f"bench-{time.time_ns():x}"
    events = [
        Event(tenant=settings.tenant, knowledge_base=BASE, source="bench", id=f"{run}-{number}", text=text)
        for number, text in enumerate(texts(documents, run))
    ]
    codec, following = Codec(Registry(settings.registry.url)), Following()
    tail = follow_receipts(settings.kafka.bootstrap, codec, following, since_ms=now_ms())
    try:
        with ConfirmedProducer(settings.kafka.bootstrap, client_id="thalweg-bench") as producer:
            tail.wait_caught_up(30.0)
            began = time.monotonic()
            positions = [item.position for batch in publish_events(producer, codec, events) for item in batch]
            missing = following.wait(positions, LOAD_S, _now_and_then(tell, documents))
            seconds = time.monotonic() - began
            deletions = [replace(event, text=None, delete=True) for event in events]
            gone = [item.position for batch in publish_events(producer, codec, deletions) for item in batch]
            following.wait(gone, LOAD_S, lambda count: None)
    finally:
        tail.close()
    chunks = sum(following.ended[position].chunks for position in positions if position in following.ended)
    failed = following.failures(positions)
    return Throughput(
        documents=documents,
        chunks=chunks,
        missing=len(missing) + len(failed),
        seconds=round(seconds, 1),
        documents_per_second=round(documents / seconds, 1),
        chunks_per_second=round(chunks / seconds, 1),
    )


def _now_and_then(tell: Callable[[str], None], total: int) -> Callable[[int], None]:
    """Tells a count every ten seconds."""
    last = time.monotonic()

    def told(count: int) -> None:
        nonlocal last
        if time.monotonic() - last > 10:
            last = time.monotonic()
            tell(f"{count} of {total} documents searchable")

    return told
