"""Rebuild by replay on the whole product: a reader and a writer go on throughout, and neither sees an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil
import pytest

from deploy.local.apps import code_root
from schemas.records import Event, document_key
from streams.pipeline import side_group, stage
from tests.support.client import eventually
from tests.support.oracle import Scan, differences, scan_weaviate
from tests.support.product import Product, no_worker
from tests.support.quiesce import Receipts, quiesce

pytestmark = [pytest.mark.real, pytest.mark.timeout(1500, func_only=True)]

DOCUMENTS = 40
LOAD, OVERTAKEN = 300, 100
"""Documents of a bulk load, and those of them that are edited before the bulk lane has come to them."""

LONG_S = 300.0
"""A generation is rebuilt from all that the tests before this one have written."""


def thalweg(product: Product, *arguments: str, good: bool = True) -> Any:
    """What `thalweg rebuild ...` prints as JSON; fails unless it does as expected."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(code_root()),
        "HOME": os.environ.get("HOME", "/"),
        **product.stack.environment(),
    }
    command = [sys.executable, "-m", "thalweg", "rebuild", *arguments, *(["--json"] if good else [])]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode == 0) == good, ran.stdout + ran.stderr
    return json.loads(ran.stdout) if good else ran.stderr


def state_of(product: Product, name: str, *, compared: bool = False) -> dict[str, Any] | None:
    found = thalweg(product, "status", *([] if compared else ["--quick"]))["generations"]
    return next((item for item in found if item["name"] == name), None)


def text_of(number: int, version: int, base: str) -> str:
    return f"Heron {number} of {base} stands in the river. It was counted {version} times.\n\nSeen again: word{number}."


@dataclass
class Reader:
    """Asks all the time; keeps what was wrong. known: what each document's version must at least be."""

    product: Product
    base: str
    known: dict[str, int] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    asked: int = 0
    generations: set[str] = field(default_factory=set)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        apis = self.product.stack.state()["apis"]
        headers = {"Authorization": f"Bearer {self.product.client.key}"}
        with httpx.Client(base_url=apis["query"], headers=headers, timeout=30, trust_env=False) as client:
            # Twenty looks a second: the machine has other work too.
            while not self.stopping.wait(0.05):
                try:
                    self.look(client)
                except Exception as error:  # noqa: BLE001  whatever it is, the test must see it
                    self.wrong.append(repr(error))
                self.asked += 1

    def look(self, client: httpx.Client) -> None:
        known, deleted = dict(self.known), set(self.deleted)
        body = {"query": "heron river", "knowledge_bases": [self.base], "limit": 100}
        answered = client.post("/v1/search", json=body)
        if answered.status_code != 200:
            self.wrong.append(f"{answered.status_code} {answered.text[:200]}")
            return
        told = answered.json()
        self.generations.add(told["generation"])
        versions: dict[str, set[str]] = {}
        for hit in told["hits"]:
            versions.setdefault(hit["document_id"], set()).add(hit["version"])
            if hit["document_id"] in deleted:
                self.wrong.append(f"{told['generation']}: {hit['document_id']} was deleted")
            counted = [word for word in hit["text"].split() if word.isdigit()]
            if "counted" in hit["text"] and int(counted[-1]) < known.get(hit["document_id"], 0):
                self.wrong.append(f"{told['generation']}: {hit['document_id']} went back: {hit['text']}")
        self.wrong += [f"{name} in versions {found}" for name, found in versions.items() if len(found) > 1]
        if missing := known.keys() - deleted - versions.keys() - self.deleted:
            self.wrong.append(f"{told['generation']}: without {sorted(missing)[:3]}")


@dataclass
class Writer:
    """Edits documents all the time, and waits for each receipt before it tells the reader what must be seen."""

    product: Product
    receipts: Receipts
    reader: Reader
    versions: dict[int, int] = field(default_factory=dict)
    positions: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    stopping: threading.Event = field(default_factory=threading.Event)

    def write(self, number: int) -> None:
        version = self.versions.get(number, 0) + 1
        began = time.monotonic()
        text = text_of(number, version, self.reader.base)
        position = self.product.client.publish(f"d{number}", text, self.reader.base)
        self.receipts.wait([position], LONG_S)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self.positions.append(position)
        self.versions[number] = version
        self.reader.known[f"d{number}"] = version

    def delete(self, number: int) -> None:
        headers = {"Authorization": f"Bearer {self.product.client.key}"}
        url = f"{self.product.stack.state()['apis']['upload']}/v1/documents/d{number}"
        gone = httpx.delete(
            url, params={"knowledge_base": self.reader.base}, headers=headers, timeout=30, trust_env=False
        )
        assert gone.status_code == 202, gone.text
        self.receipts.wait([gone.json()["position"]], LONG_S)
        self.positions.append(gone.json()["position"])
        self.versions.pop(number, None)
        self.reader.known.pop(f"d{number}", None)
        self.reader.deleted.add(f"d{number}")

    def run(self) -> None:
        while not self.stopping.is_set():
            for number in list(self.versions):
                if self.stopping.wait(0.05):
                    return
                try:
                    self.write(number)
                except (AssertionError, httpx.HTTPError) as error:
                    self.failed.append(repr(error))


@contextmanager
def running(*loops: Reader | Writer) -> Iterator[None]:
    threads = [threading.Thread(target=loop.run, daemon=True) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.stopping.set()
        for thread in threads:
            thread.join(LONG_S)
            assert not thread.is_alive()
        for loop in loops:
            loop.stopping.clear()


@pytest.fixture
def one_generation_left(product: Product) -> Iterator[None]:
    """Whatever becomes of the test, no second generation is fed beside the tests after it."""
    yield
    for found in thalweg(product, "status", "--quick")["generations"]:
        if found["state"] != "live":
            thalweg(product, "prune", found["name"])


def side_worker(product: Product, name: str) -> psutil.Process:
    """The child that feeds a generation."""

    def child() -> psutil.Process:
        keeper = psutil.Process(product.process("rebuild")["pid"])
        found = [process for process in keeper.children() if name in process.cmdline()]
        assert len(found) == 1, [process.cmdline() for process in keeper.children()]
        return found[0]

    return eventually(child, LONG_S)


def caught_up(product: Product, name: str) -> None:
    """Wait until the generation's own group has read everything."""

    def read() -> None:
        lags = product.topics.lag(side_group(name), stage("index").reads)
        assert any(lag.committed is not None for lag in lags), f"{side_group(name)} has not begun"
        left = sum(product.topics.count_data(lag) for lag in lags)
        assert left == 0, f"{left} records left"

    eventually(read, LONG_S)


def computed(product: Product) -> int:
    """How many vectors were ever computed: each goes to the topic `embeddings`, delivery confirmed."""
    return sum(product.topics.offsets(["embeddings"]).values())


def assert_exact(product: Product, name: str, writer: Writer) -> None:
    """A full scan of the generation is what was written: nothing missing, doubled, stale or left over."""
    whole = scan_weaviate(product.weaviate, f"Chunks_{name}", f"Manifests_{name}", product.tenant)
    base, tenant = writer.reader.base, product.tenant
    prefix = f"{tenant}/{base}/"
    scan = Scan(
        tuple(found for found in whole.manifests if found.document.startswith(prefix)),
        tuple(found for found in whole.chunks if found.document.startswith(prefix)),
    )
    expected = {
        document_key(tenant, base, f"d{number}"): text_of(number, version, base)
        for number, version in writer.versions.items()
    }
    found = differences(scan, expected)
    assert not found, f"{name}: " + "\n".join(found[:20])


def overtake(product: Product, receipts: Receipts, base: str) -> list[str]:
    """Publish a bulk load and edit a part of it while the bulk lane stands still: those texts are never indexed."""
    events = [Event(product.tenant, base, f"o{n}", text=f"Overtaken {n} {base}.", source="load") for n in range(LOAD)]
    with no_worker(product, "index-bulk"):
        positions = product.publish(events)
        edits = [product.client.publish(f"o{n}", f"Edited {n} {base}.", base) for n in range(OVERTAKEN)]
        receipts.wait(edits, LONG_S)
    return positions + edits


@pytest.mark.usefixtures("one_generation_left")
def test_a_generation_is_rebuilt_promoted_and_taken_back_while_readers_and_writers_go_on(
    product: Product, receipts: Receipts
) -> None:
    base = f"rebuilt-{uuid.uuid4().hex[:8]}"
    reader = Reader(product, base)
    writer = Writer(product, receipts, reader)
    for number in range(DOCUMENTS):
        position = product.client.publish(f"d{number}", text_of(number, 1, base), base)
        writer.positions.append(position)
        writer.versions[number] = 1
    overtaken = overtake(product, receipts, f"overtaken-{base}")
    quiesce(product, receipts, [*writer.positions, *overtaken], within_s=LONG_S)
    reader.known.update({f"d{number}": 1 for number in range(DOCUMENTS)})
    old = next(item for item in thalweg(product, "status", "--quick")["generations"] if item["state"] == "live")["name"]

    # The same model, and nothing is written meanwhile: not one text goes to the model.
    paid = computed(product)
    new = thalweg(product, "start")["generation"]
    assert new != old
    caught_up(product, new)
    assert computed(product) == paid
    ready = state_of(product, new, compared=True)
    assert ready is not None
    assert ready["state"] == "ready", ready
    assert ready["comparison"]["agrees"], ready["comparison"]
    assert ready["documents"] >= DOCUMENTS

    with running(reader, writer):
        # Live changes reach both, also over a death of the worker that feeds the new one.
        worker = side_worker(product, new)
        os.kill(worker.pid, signal.SIGKILL)
        for number in range(5):
            writer_done = writer.versions.get(number, 0)
            eventually(lambda n=number, v=writer_done: writer.versions.get(n, 0) > v, LONG_S)  # type: ignore[misc]
        assert side_worker(product, new).pid != worker.pid
        assert reader.generations == {old}

        thalweg(product, "promote", new)
        eventually(lambda: new in reader.generations, 10)
        edits = sum(writer.versions.values())
        eventually(lambda: sum(writer.versions.values()) > edits + 10, LONG_S)
        thalweg(product, "promote", new)  # a second time: harmless
    assert not reader.wrong, reader.wrong[:10]
    assert not writer.failed, writer.failed[:5]
    writer.delete(0)

    quiesce(product, receipts, writer.positions, within_s=LONG_S)
    caught_up(product, old)
    assert len(writer.versions) == DOCUMENTS - 1
    assert_exact(product, new, writer)
    assert_exact(product, old, writer)
    assert "is live" in thalweg(product, "prune", new, good=False)

    with running(reader, writer):
        assert thalweg(product, "rollback") == {"live": old}
        reader.generations.clear()
        eventually(lambda: old in reader.generations, 10)
        edits = sum(writer.versions.values())
        eventually(lambda: sum(writer.versions.values()) > edits + 10, LONG_S)
        thalweg(product, "prune", new)
        asked = reader.asked
        eventually(lambda: reader.asked > asked + 10, LONG_S)
    assert reader.generations == {old}
    assert not reader.wrong, reader.wrong[:10]
    assert not writer.failed, writer.failed[:5]
    quiesce(product, receipts, writer.positions, within_s=LONG_S)
    assert_exact(product, old, writer)
    assert state_of(product, new) is None
    assert not product.topics.members(side_group(new))
    print(f"asked {reader.asked} times, {sum(writer.versions.values())} versions, slowest {writer.slowest_s:.1f} s")
