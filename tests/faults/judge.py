"""The judgement after a fault: the product comes to rest by itself, and holds exactly what was accepted.

Before this: the fault is over and the load has stopped. After this: the findings go into the row.
"""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import psycopg
from confluent_kafka import KafkaException

from runtime.topics import BrokerUnavailable
from schemas.index.contract import VECTOR
from schemas.records import document_key
from streams import generations
from tests.faults.fault import Bite, Row
from tests.faults.world import World
from tests.stand_ins.model_answers import vector_of
from tests.support.client import eventually
from tests.support.counted import DIMENSION
from tests.support.oracle import differences
from tests.support.quiesce import queue_depths

_KINDS = {
    "missing: ": "lost",
    "is in no chunk": "lost",
    "is listed, but retired": "lost",
    "neither listed nor retired": "duplicated",
    "not marked superseded": "duplicated",
    "should be gone": "stale",
    "is not the text at": "stale",
}


def judge(world: World, bite: Bite, row: Row, rest_s: float) -> None:
    """Wait for rest, at most `rest_s`, then hold everything against everything; what differs goes into `row`."""
    began = time.monotonic()
    deadline = began + rest_s
    try:
        positions = _come_to_rest(world, bite, deadline)
    except AssertionError as error:
        row.findings.append(f"not at rest: {error}")
        positions = []
    row.recovery_s = time.monotonic() - began
    _compare(world, bite, row)
    row.findings += _vectors(world)
    row.findings += _parked(world, bite)
    row.findings += bite.special()
    world.judged.update(positions)


def _come_to_rest(world: World, bite: Bite, deadline: float) -> list[str]:
    """Return once all accepted is captured, has its receipt, and no stage has anything left to do."""

    def left() -> float:
        return max(0.1, deadline - time.monotonic())

    def close_books() -> str:
        try:
            return world.close_books()
        except psycopg.OperationalError as error:
            world.source.reconnect()
            raise AssertionError(f"the table cannot be written to: {error}") from error

    def reachable() -> str:
        try:
            return close_books()
        except psycopg.Error as error:
            raise AssertionError(f"PostgreSQL is away: {error}") from error

    word = eventually(reachable, left(), every_s=0.3).encode()
    seen = 0

    def captured() -> bool:
        nonlocal seen
        records = world.source.records
        fresh, seen = records[max(0, seen - 50) :], len(records)
        return any(word in value for _, value in fresh)

    try:
        eventually(captured, left())
    except AssertionError:
        raise AssertionError("the connector does not stream any more") from None
    eventually(lambda: _read(world, left()), left())
    records = [position for position, _ in world.source.records]
    wanted = ({*records, *world.load.positions, *bite.positions} - world.poison) - world.judged
    world.receipts.wait(wanted, left())
    eventually(lambda: _idle(world), left(), every_s=0.2)
    return list(wanted)


def _read(world: World, within_s: float) -> bool:
    try:
        world.source.read_to_end(within_s)
    except (BrokerUnavailable, KafkaException) as error:
        raise AssertionError(f"the broker does not say how far its topic reaches: {error}") from error
    return True


def _idle(world: World) -> bool:
    try:
        depths = queue_depths(world.product, [world.source.spec.topic])
    except (BrokerUnavailable, KafkaException) as error:
        raise AssertionError(f"the broker does not say what waits: {error}") from error
    assert not any(depths.values()), f"still waiting: {depths}"
    return True


def _compare(world: World, bite: Bite, row: Row) -> None:
    product, base = world.product, world.base
    expected = world.source.expected()
    texts = world.load.texts() | dict(bite.texts)
    expected |= {document_key(product.tenant, base, name): text for name, text in texts.items()}
    found = differences(product.scan(base, world.source.spec.name), expected)
    counted: Counter[str] = Counter()
    for line in found:
        counted[next((kind for mark, kind in _KINDS.items() if mark in line), "lost")] += 1
    row.lost, row.duplicated, row.stale = counted["lost"], counted["duplicated"], counted["stale"]
    row.findings += found[:20]


def _vectors(world: World) -> list[str]:
    """Every vector that is stored must be the model's vector of its text."""
    generation = generations.live(world.product.weaviate)
    chunks = world.product.weaviate.collections.use(generation.chunks).with_tenant(world.product.tenant)
    prefix = f"{world.product.tenant}/{world.base}/"
    wrong, looked = [], 0
    for item in chunks.iterator(include_vector=[VECTOR], return_properties=["document", "text"]):
        if not str(item.properties["document"]).startswith(prefix):
            continue
        looked += 1
        stored = np.asarray(item.vector[VECTOR])
        wanted = np.asarray(vector_of(str(item.properties["text"]), DIMENSION))
        if stored.shape != wanted.shape or not float(stored @ wanted) > 1 - 1e-5:
            wrong.append(f"{item.properties['document']}: chunk {item.uuid} has another text's vector, or none")
    assert looked, "no chunk was looked at"
    return wrong[:10]


def _parked(world: World, bite: Bite) -> list[str]:
    """Exactly the records that had to be, exactly once each."""
    found = Counter(letter.position for letter in world.letters())
    wrong = [
        f"{position} was dead-lettered {found[position]} times, not once"
        for position in bite.parked
        if found[position] != 1
    ]
    return wrong + [f"{position} was dead-lettered, for no reason" for position in found.keys() - set(bite.parked)]
