"""Lanes: how fresh live edits stay while a load of many documents comes in, and beside one very large document.

Before: a running stack. After: `__main__` prints the numbers.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from connectors.publish import Following, follow_receipts, publish_events
from deploy.demo.client import Client
from deploy.demo.table import apply_source
from deploy.local import apps
from deploy.local.stack import Stack
from runtime.clock import now_ms
from runtime.producer import ConfirmedProducer
from runtime.settings import Settings
from runtime.topics import Topics
from schemas.codec import Codec
from schemas.records import Event
from schemas.registry import Registry
from streams.pipeline import stage
from tests.bench import freshness, throughput

RATIO = 2.0
"""Live p95 beside a load, over that of an idle stack: what is promised."""

_SNAPSHOT = f"""\
name: bench_load
knowledge_base: {freshness.BASE}
table: bench_load.items
text: body
"""
_LARGE_S = 1_800
"""For the large document, on a slow machine."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Beside:
    """Freshness of live edits beside a load. left: records before the bulk lane when the last edit was found."""

    kind: str
    count: int
    missing: int
    p50: float
    p95: float
    ratio: float
    left: int

    @property
    def good(self) -> bool:
        """The promise is kept, and the load was there all the time."""
        return not self.missing and self.ratio <= RATIO and self.left > 0


@dataclass(frozen=True)
class Large:
    """One document of many chunks. grown_mib: by how much the bulk worker's memory grew at most, from before it."""

    chunks: int
    megabytes: float
    seconds: float
    before_mib: float
    grown_mib: float
    neighbours: Beside


def waiting(settings: Settings) -> int:
    """Records before the bulk lane, by the broker."""
    bulk, topics = stage("index-bulk"), Topics(settings.kafka.bootstrap)
    return sum(topics.count_data(lag) for lag in topics.lag(bulk.group, bulk.reads))


def measure(
    running: Stack,
    settings: Settings,
    client: Callable[[], Client],
    *,
    documents: int,
    edits: int,
    tell: Tell,
    kinds: tuple[str, ...] = ("publish", "snapshot", "large"),
) -> dict[str, Any]:
    """Idle, then beside each kind of load."""
    dsn = running.state()["servers"]["postgres"]["dsn"]
    with freshness.source(dsn, running.environment()) as session:

        def live(count: int) -> freshness.Freshness:
            return freshness.measure(session, client, updates=count, per_second=5, tell=lambda _: None)

        tell("live edits, nothing else")
        idle = live(min(edits, 200))
        tell(f"{idle}")
        found: dict[str, Any] = {"idle": asdict(idle)}

        def beside(kind: str, count: int) -> Beside:
            fresh = live(count)
            ratio = round(fresh.p95 / idle.p95, 2)
            return Beside(kind, fresh.count, fresh.missing, fresh.p50, fresh.p95, ratio, waiting(settings))

        for kind in kinds:
            tell(f"live edits beside: {kind}")
            if kind == "large":
                found[kind] = asdict(_large(running, settings, beside, tell))
                continue
            load = _published if kind == "publish" else _snapshot
            with load(running, settings, documents):
                _until(lambda: waiting(settings) > documents / 20, 180)
                tell(f"{waiting(settings)} records wait before the bulk lane")
                seen = beside(kind, edits)
                tell(f"{seen}")
            found[kind] = {**asdict(seen), "good": seen.good}
            _until(lambda: waiting(settings) == 0, 900)
    return found


@contextmanager
def _published(_: Stack, settings: Settings, documents: int) -> Iterator[None]:
    """Small documents, published at once as a long file would be; deleted when the measurement is over."""
    run = f"load-{time.time_ns():x}"
    texts = throughput.texts(documents, run)
    events = [Event(settings.tenant, freshness.BASE, f"{run}-{n}", text=text[:400]) for n, text in enumerate(texts)]
    with ConfirmedProducer(settings.kafka.bootstrap, client_id="thalweg-bench") as producer:
        codec = Codec(Registry(settings.registry.url))
        for _batch in publish_events(producer, codec, events):
            pass
        yield
        deletions = [Event(settings.tenant, freshness.BASE, event.id, delete=True) for event in events]
        for _batch in publish_events(producer, codec, deletions):
            pass


@contextmanager
def _snapshot(running: Stack, settings: Settings, documents: int) -> Iterator[None]:
    """A table with so many rows becomes a source."""
    del settings
    environment = {**os.environ, **running.environment(), "PYTHONPATH": str(apps.code_root())}
    texts = throughput.texts(documents, f"rows-{time.time_ns():x}")
    dsn = running.state()["servers"]["postgres"]["dsn"]
    with (
        tempfile.TemporaryDirectory(prefix="thalweg-bench-") as folder,
        psycopg.connect(dsn, autocommit=True) as session,
    ):
        file = Path(folder) / "bench_load.yaml"
        file.write_text(_SNAPSHOT, encoding="utf-8")
        session.execute("DROP SCHEMA IF EXISTS bench_load CASCADE")
        session.execute("CREATE SCHEMA bench_load")
        session.execute("CREATE TABLE bench_load.items (id integer PRIMARY KEY, body text NOT NULL)")
        session.execute("ALTER TABLE bench_load.items REPLICA IDENTITY FULL")
        with session.cursor() as cursor, cursor.copy("COPY bench_load.items FROM STDIN") as copy:
            for number, text in enumerate(texts):
                copy.write_row((number, text[:400]))
        try:
            apply_source(file, environment)
            yield
        finally:
            remove = apps.command(("sources", "remove", str(file), "--delete-documents"))
            subprocess.run(remove, env=environment, check=True, capture_output=True, timeout=120)
            session.execute("DROP SCHEMA bench_load CASCADE")


def _large(running: Stack, settings: Settings, beside: Callable[[str, int], Beside], tell: Tell) -> Large:
    """A document of about ten thousand chunks; its neighbours in every partition are the live edits."""
    run = f"large-{time.time_ns():x}"
    text = "\n\n".join(throughput.texts(1_100, run))
    event = Event(settings.tenant, freshness.BASE, run, text=text)
    codec, following = Codec(Registry(settings.registry.url)), Following()
    tail = follow_receipts(settings.kafka.bootstrap, codec, following, since_ms=now_ms())
    process = psutil.Process(int(running.state()["processes"]["index-bulk"]["pid"]))
    before = peak = process.memory_info().rss
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.05):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        with ConfirmedProducer(settings.kafka.bootstrap, client_id="thalweg-bench") as producer:
            tail.wait_caught_up(30.0)
            began = time.monotonic()
            (published,) = next(publish_events(producer, codec, [event]))
            neighbours = beside("large", 150)
            tell(f"{neighbours}; memory grew by {(peak - before) >> 20} MiB so far")
            missing = following.wait([published.position], _LARGE_S, lambda _: None)
            seconds = time.monotonic() - began
            for _batch in publish_events(producer, codec, [Event(settings.tenant, freshness.BASE, run, delete=True)]):
                pass
    finally:
        over.set()
        watcher.join()
        tail.close()
    if missing:
        raise RuntimeError(f"the large document was not indexed within {_LARGE_S} s")
    receipt = following.ended[published.position]
    tell(f"{receipt.chunks} chunks in {seconds:.0f} s")
    mib = 1024 * 1024
    return Large(
        receipt.chunks, round(len(text) / 1e6, 1), round(seconds, 1), round(before / mib), round((peak - before) / mib),
        neighbours,
    )  # fmt: skip


def _until(true: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {within_s:g} s")
        time.sleep(0.5)
