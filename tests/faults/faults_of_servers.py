"""Faults of what the product stands on: broker, store, database, Connect and our APIs killed, held down or frozen.

Before this: `world.py`. After this: `matrix.py`. Nobody helps: the supervisor starts again what ended, and that is all.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from typing import Literal

import httpx
import psutil
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from runtime.producer import DeliveryFailed, Outgoing
from schemas.catalog import topics
from schemas.records import Event
from streams import generations
from tests.faults.fault import Bite
from tests.faults.processes import assignment
from tests.faults.world import World
from tests.support.client import eventually

HONEST_S = 12.0


def broker_down(world: World, rng: random.Random) -> Bite:
    """F12: the broker killed, and kept down for 10 s."""
    deaths = world.processes.hold_down("kafka", 10 + rng.uniform(0, 2))
    world.processes.live("kafka")
    return Bite(deaths, f"killed, down for 10 s, {deaths} deaths")


def store_killed(world: World, rng: random.Random) -> Bite:
    """F13: Weaviate killed five times while it takes writes, each time after proved progress."""
    for _ in range(5):
        world.processes.live("weaviate")
        world.progress()
        time.sleep(rng.uniform(0.0, 1.0))
        world.processes.kill("weaviate")
    world.processes.live("weaviate")
    return Bite(5, "killed 5 times while writes came in")


def store_killed_in_deletes(world: World, rng: random.Random) -> Bite:
    """F14: Weaviate killed in the middle of a storm of deletes, twice."""
    name = "storm-{}"
    documents = [
        {"id": name.format(n), "text": f"Storm {n}: {rng.getrandbits(64)}.", "knowledge_base": world.base}
        for n in range(600)
    ]
    answered = world.product.client.ingest.post("/v1/documents", json={"documents": documents})
    assert answered.status_code == 202, answered.text
    positions = [str(told["position"]) for told in answered.json()["documents"]]
    world.receipts.wait(positions, 120)
    with world.producer() as producer:
        gone = [Event(world.product.tenant, world.base, str(d["id"]), delete=True, source="api") for d in documents]
        records = [Outgoing("events", e.key.encode(), world.product.codec.encode("events", e)) for e in gone]
        positions += [delivery.position for delivery in producer.send(records)]
    for _ in range(2):
        world.progress()
        world.processes.kill("weaviate")
        world.processes.live("weaviate")
    return Bite(2, "killed twice among 600 deletes", positions=positions)


def store_slow_then_frozen(world: World, rng: random.Random) -> Bite:
    """F15: Weaviate answers only every 5 s for half a minute, then not at all for a minute; connections stay open."""
    index = world.processes.live("index")
    pid = world.processes.stop("weaviate")
    world.healing.callback(world.processes.go_on, pid)
    for _ in range(5):
        time.sleep(5)
        world.processes.go_on(pid)
        time.sleep(0.4)
        os.kill(pid, signal.SIGSTOP)
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, 10)
    told, slowest, until = 0, 0.0, time.monotonic() + 60
    body = {"query": "Paragraph 1 river", "knowledge_bases": [world.base], "mode": "keyword"}
    while time.monotonic() < until:
        began = time.monotonic()
        answered = world.product.client.query.post("/v1/search", json=body)
        slowest = max(slowest, time.monotonic() - began)
        assert answered.status_code == 503, f"{answered.status_code} from a frozen store: {answered.text[:200]}"
        told += 1
        time.sleep(rng.uniform(1, 3))
    world.processes.go_on(pid)
    assert slowest < HONEST_S, f"a refusal took {slowest:.1f} s"
    assert world.processes.live("index") == index, "the index worker did not outlast it"
    members = assignment(world.bootstrap, "thalweg-index")
    assert any(members.values()), "the index worker lost its place: no heartbeats while the store hung"
    return Bite(told, f"{told} refusals, the slowest after {slowest:.1f} s; the worker kept its place")


def database_killed(world: World, rng: random.Random) -> Bite:
    """F17: the postmaster killed twice under writes; the connector must come back by itself."""
    for _ in range(2):
        world.progress("capture")
        world.processes.kill("postgres")
        world.processes.live("postgres")
        time.sleep(rng.uniform(0.5, 2))
    return Bite(2, "postmaster killed twice")


def connect_killed(world: World, rng: random.Random) -> Bite:
    """F18: the Connect worker killed twice, the second time while it comes back from the first."""
    world.progress("capture")
    time.sleep(rng.uniform(0, 1))
    first = world.processes.kill("connect")
    world.processes.live("connect", other_than=first)
    time.sleep(rng.uniform(0, 3))
    world.processes.kill("connect")
    world.processes.live("connect")
    return Bite(2, "killed twice")


def apis_killed(world: World, rng: random.Random) -> Bite:
    """F46: both APIs killed, and the query API frozen for a while."""
    for name in ("query", "upload"):
        world.processes.kill(name)
        world.processes.live(name)
    pid = world.processes.stop("query")
    world.healing.callback(world.processes.go_on, pid)
    time.sleep(5 + rng.uniform(0, 2))
    world.processes.go_on(pid)
    return Bite(3, "query and upload API killed, query API frozen for 5 s")


def registry_killed(world: World, rng: random.Random) -> Bite:
    """Beside the matrix: the schema registry down for 10 s, while a worker that has no schema cached yet starts."""
    deaths = world.processes.hold_down("registry", 5)
    world.processes.kill("capture")
    deaths += world.processes.hold_down("registry", 5 + rng.uniform(0, 2))
    world.processes.live("registry")
    return Bite(deaths, f"registry down for 10 s, capture killed meanwhile, {deaths} deaths")


def all_at_once(world: World, rng: random.Random) -> Bite:
    """F50: every server frozen one by one and let go in another order; then everything killed at once."""
    servers, frozen = world.processes.servers(), {}
    for name in rng.sample(servers, len(servers)):
        frozen[name] = world.processes.stop(name)
        world.healing.callback(world.processes.go_on, frozen[name])
        time.sleep(rng.uniform(0.2, 1.5))
    for name in rng.sample(servers, len(servers)):
        world.processes.go_on(frozen[name])
        time.sleep(rng.uniform(0.2, 1.5))
    world.progress(within_s=120)
    everything = [*servers, *world.processes.own()]
    rng.shuffle(everything)
    pids = {name: world.processes.live(name) for name in everything}
    for name, pid in pids.items():
        world.processes.down.add(name)
        world.processes.killed[name] += 1
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for name, pid in pids.items():
        world.processes.live(name, other_than=pid, within_s=240)

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return world.product.client.query.get("/ready").status_code == 200
        return False

    eventually(answers, 120)
    return Bite(len(pids) + len(frozen), f"{len(frozen)} servers frozen, then {len(pids)} processes killed at once")


def store_read_only(world: World, rng: random.Random) -> Bite:
    """F16: the store refuses every write, as it does when its disk is nearly full; nothing may be parked for it."""
    generation = generations.live(world.product.weaviate)
    tenant = world.product.tenant
    collections = [world.product.weaviate.collections.use(name) for name in (generation.chunks, generation.manifests)]

    def set_status(status: Literal["READONLY", "READY"]) -> None:
        for collection in collections:
            collection.config.update_shards(status, shard_names=[tenant])

    world.healing.callback(set_status, "READY")
    set_status("READONLY")
    begin = world.committed("index")
    time.sleep(3)
    stuck, until = world.committed("index"), time.monotonic() + 12 + rng.uniform(0, 3)
    while time.monotonic() < until:
        time.sleep(0.5)
    after = world.committed("index")
    set_status("READY")
    assert after == stuck, f"the index stage acknowledged {after - stuck} records that it could not write"
    world.progress()
    return Bite(1, f"read-only for 15 s; {stuck - begin} in hand were acknowledged, then none")


def letters_refused(world: World, rng: random.Random) -> Bite:
    """F11: the topic of dead letters takes none for 15 s: what should be parked holds its stage, unacknowledged."""
    admin = AdminClient({"bootstrap.servers": world.bootstrap, "log_level": 0})

    def take_up_to(size: str) -> None:
        entry = ConfigEntry("max.message.bytes", size, incremental_operation=AlterConfigOpType.SET)
        wanted = ConfigResource(ResourceType.TOPIC, "dead-letters", incremental_configs=[entry])
        admin.incremental_alter_configs([wanted])[wanted].result(20)

    usual = topics()["dead-letters"].config["max.message.bytes"]
    world.healing.callback(take_up_to, usual)
    take_up_to("10")
    with world.producer() as producer:
        try:
            producer.send([Outgoing("dead-letters", b"probe", b"a letter")])
        except DeliveryFailed:
            pass
        else:
            raise AssertionError("the broker takes letters")
        bad = producer.send([Outgoing("events", f"k{n}".encode(), rng.randbytes(50)) for n in range(3)])
    positions = [delivery.position for delivery in bad]
    time.sleep(15 + rng.uniform(0, 2))
    committed = {
        (lag.topic, lag.partition): lag.committed or 0
        for lag in world.product.topics.lag("thalweg-capture", ["events"])
    }
    passed = [d.position for d in bad if committed[d.topic, d.partition] > d.offset]
    take_up_to(usual)
    assert not passed, f"acknowledged without their letter: {passed}"
    return Bite(3, "no letter was taken for 15 s, and nothing acknowledged", parked=positions)


def lag_unknown(world: World, rng: random.Random) -> Bite:
    """F34: with records waiting, the broker is frozen again and again: the depth that is told never falls."""
    pid = world.processes.stop("index")
    world.healing.callback(world.processes.go_on, pid)
    product = world.product

    def depth() -> float:
        return product.metric("lag-exporter", "thalweg_queue_depth", stage="index")

    eventually(lambda: depth() >= 30, 60, every_s=0.3)
    least, looks = depth(), 0
    for _ in range(4):
        broker = world.processes.stop("kafka")
        world.healing.callback(world.processes.go_on, broker)
        until = time.monotonic() + rng.uniform(2, 6)
        while time.monotonic() < until:
            found = depth()
            assert found >= least, f"{found:g} wait, says the exporter, and {least:g} did before: unknown is not zero"
            looks += 1
            time.sleep(0.2)
        world.processes.go_on(broker)
        time.sleep(rng.uniform(0.5, 3))
    world.processes.go_on(pid)
    return Bite(4, f"broker frozen 4 times, {looks} looks at no fewer than {least:g}")
