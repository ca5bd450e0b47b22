"""A flood in one topic holds no other back; a flood in another lane is passed over, and acknowledged all the same."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from runtime.producer import ConfirmedProducer, Outgoing
from runtime.topics import Topics
from schemas.lanes import Lane
from tests.integration.servers import RealServer, bootstrap_of
from tests.support.client import eventually

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

FLOOD, FIRST = 8_000, 500
KILLED_AFTER = 30
MOST_BEFORE = 2_000
"""Of the flood, handled between the lone record's publication and its turn. Without turns it is all that is left."""

READER = """
import asyncio, sys
from prometheus_client import CollectorRegistry
from runtime.metrics import declare
from runtime.settings import load_settings
from streams.adapters.runner import Loop, build_app, run
from streams.core.budget import LetterBudget
from schemas.lanes import Lane
from streams.core.outcomes import Done

group, lane, per_second, *topics = sys.argv[1:]

class Step:
    name = "counting"
    async def handle(self, batch):
        for record in batch:
            # On a line of its own: Faust speaks to the terminal, too.
            print(f"\\n{record.topic} {record.partition} {record.offset}", flush=True)
        await asyncio.sleep(0.05)
        return [Done() for _ in batch]
    async def failed(self, record, outcome):
        raise AssertionError(outcome)

settings = load_settings()
loop = Loop(Step(), None, declare(CollectorRegistry()), 1, 1.0, LetterBudget(1, 1), sys.exit)
run(build_app(group=group, topics=topics, loop=loop, settings=settings, batch=100, lookahead=0,
              within_s=0.05, instance="one", lasting=False, lane=Lane(lane) if lane else None,
              per_second=float(per_second) if per_second else None))
"""


LOSSY = """
from faust.transport.consumer import Consumer
whole, lost = Consumer.getmany, set()

async def lossy(self, timeout):
    async for place, message in whole(self, timeout):
        if message.offset % 7 == 2 and (place, message.offset) not in lost:
            lost.add((place, message.offset))
            continue
        yield place, message

Consumer.getmany = lossy
"""
"""Lets records fall between the client and the stage, each once, as Faust does amid a rebalance."""


def topics_of(bootstrap: str, **partitions: int) -> list[str]:
    """Makes topics whose names begin so, with so many partitions; their names."""
    wanted = [NewTopic(f"{name}-{uuid.uuid4().hex}", count) for name, count in partitions.items()]
    admin = AdminClient({"bootstrap.servers": bootstrap})  # held: its answers end with it
    for made in admin.create_topics(wanted).values():
        made.result(30)
    return [topic.topic for topic in wanted]


def start(
    bootstrap: str, home: Path, group: str, lane: str, per_second: str, *topics: str, before: str = ""
) -> subprocess.Popen[str]:
    """A worker that tells each record that it handles: topic, partition, offset. before: code that it runs first."""
    environment = {**os.environ, "THALWEG_KAFKA__BOOTSTRAP": bootstrap, "THALWEG_HOME": str(home)}
    command = [sys.executable, "-c", before + READER, group, lane, per_second, *topics]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(10)


@pytest.fixture
def reader(kafka_server: RealServer, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A worker on two topics, the first of which holds a flood."""
    bootstrap = bootstrap_of(kafka_server)
    flood, lone = topics_of(bootstrap, flood=3, lone=1)
    with ConfirmedProducer(bootstrap, client_id="test") as producer:
        producer.send([Outgoing(flood, str(n).encode(), b"v" * 300) for n in range(FLOOD)])
    process = start(bootstrap, tmp_path, f"count-{flood}", "", "", flood, lone)
    try:
        yield process, bootstrap, lone
    finally:
        end(process)


def test_a_lone_record_waits_for_one_turn_of_a_flood(reader: tuple[subprocess.Popen[str], str, str]) -> None:
    process, bootstrap, lone = reader
    assert process.stdout is not None
    handled = (line.split(" ")[0].strip() for line in process.stdout)
    flooded = (topic for topic in handled if topic.startswith(("flood-", "lone-")))
    for _ in range(FIRST):
        assert next(flooded).startswith("flood-")
    with ConfirmedProducer(bootstrap, client_id="test") as producer:
        producer.send([Outgoing(lone, b"key", b"value")])

    before = next(count for count, topic in enumerate(flooded) if topic == lone)

    assert before < MOST_BEFORE
    left = sum(1 for _, topic in zip(range(FLOOD - FIRST - before), flooded, strict=False) if topic != lone)
    assert left == FLOOD - FIRST - before, "and nothing of the flood is lost"


def test_a_load_comes_at_its_pace_and_others_between(kafka_server: RealServer, tmp_path: Path) -> None:
    """2,000 at 1,000 a second, but for the first turn, take almost two; no machine is too slow for that."""
    bootstrap = bootstrap_of(kafka_server)
    load, lone = topics_of(bootstrap, load=3, lone=1)
    with ConfirmedProducer(bootstrap, client_id="test") as producer:
        producer.send([Outgoing(load, str(n).encode(), b"v" * 300) for n in range(2_000)])
        process = start(bootstrap, tmp_path, f"pace-{load}", "", "1000", load, lone)
        try:
            assert process.stdout is not None
            handled = (line.split(" ")[0].strip() for line in process.stdout)
            topics = (topic for topic in handled if topic in (load, lone))
            assert next(topics) == load
            began = time.monotonic()
            producer.send([Outgoing(lone, b"key", b"value")])
            order = list(islice(topics, 2_000))
            took = time.monotonic() - began
        finally:
            end(process)

    assert order.count(lone) == 1
    assert order.index(lone) < 1_500
    assert took > 1.5


@pytest.mark.parametrize("first_is_its_own", [True, False])
def test_what_follows_the_very_first_record_of_a_partition_is_acknowledged(
    kafka_server: RealServer, tmp_path: Path, first_is_its_own: bool
) -> None:
    """Offset 0 alone, then a gap: whether the worker takes it, or passes it over before there was more."""
    bootstrap = bootstrap_of(kafka_server)
    (topic,) = topics_of(bootstrap, documents=1)
    group, broker = f"live-{topic}", Topics(bootstrap)
    other = (Lane.BULK.header,)

    def nothing_left() -> bool:
        return sum(lag.lag for lag in broker.lag(group, [topic])) == 0

    with ConfirmedProducer(bootstrap, client_id="test") as producer:
        producer.send([Outgoing(topic, b"key", b"value", () if first_is_its_own else other)])
        process = start(bootstrap, tmp_path, group, "live", "", topic)
        try:
            eventually(nothing_left, 30)
            producer.send([Outgoing(topic, b"key", b"value", other) for _ in range(50)])
            eventually(nothing_left, 30)
            producer.send([Outgoing(topic, b"key", b"value")])
            eventually(nothing_left, 30)
        finally:
            end(process)


def test_records_of_another_lane_are_passed_over_and_acknowledged(kafka_server: RealServer, tmp_path: Path) -> None:
    """Also by a worker that is killed amid them: no record of its own is skipped, and at the end nothing is left."""
    bootstrap = bootstrap_of(kafka_server)
    (topic,) = topics_of(bootstrap, documents=3)
    records = [
        Outgoing(topic, str(n).encode(), b"v" * 300, (() if n % 100 == 42 else (Lane.BULK.header,)))
        for n in range(FLOOD)
    ]
    with ConfirmedProducer(bootstrap, client_id="test") as producer:
        mine = {
            (delivery.partition, delivery.offset)
            for record, delivery in zip(records, producer.send(records), strict=True)
            if not record.headers
        }
    group, broker = f"live-{topic}", Topics(bootstrap)
    handled: list[tuple[int, int]] = []

    def read(process: subprocess.Popen[str]) -> Iterator[tuple[int, int]]:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(topic):
                place = (int(line.split()[1]), int(line.split()[2]))
                handled.append(place)
                if place in mine:
                    yield place

    first = start(bootstrap, tmp_path, group, "live", "", topic)
    try:
        seen = list(islice(read(first), KILLED_AFTER))
    finally:
        end(first)
    second = start(bootstrap, tmp_path, group, "live", "", topic)
    try:
        again = read(second)
        while not set(seen) >= mine:
            seen.append(next(again))
        eventually(lambda: sum(lag.lag for lag in broker.lag(group, [topic])) == 0, 30)
    finally:
        end(second)

    assert len(set(handled)) < FLOOD / 10, "most of the flood went through Faust"


def test_what_the_client_lets_fall_is_read_again_and_not_acknowledged_unseen(
    kafka_server: RealServer, tmp_path: Path
) -> None:
    """Also the last record of all, behind which nothing comes; and records of another lane are no loss."""
    bootstrap = bootstrap_of(kafka_server)
    (topic,) = topics_of(bootstrap, documents=1)
    records = [Outgoing(topic, b"key", b"value", (Lane.BULK.header,) if n % 10 == 5 else ()) for n in range(1_004)]
    with ConfirmedProducer(bootstrap, client_id="test") as producer:
        sent = producer.send(records)
    mine = {delivery.offset for record, delivery in zip(records, sent, strict=True) if not record.headers}
    assert max(mine) % 7 == 2, "the last one falls"
    group, broker = f"live-{topic}", Topics(bootstrap)
    process = start(bootstrap, tmp_path, group, "live", "", topic, before=LOSSY)
    handled: set[int] = set()

    def read() -> None:
        assert process.stdout is not None
        handled.update(int(line.split()[2]) for line in process.stdout if line.startswith(topic))

    reading = threading.Thread(target=read)
    reading.start()
    try:
        eventually(lambda: handled >= mine, 40)
        eventually(lambda: sum(lag.lag for lag in broker.lag(group, [topic])) == 0, 30)
    finally:
        end(process)
        reading.join()
