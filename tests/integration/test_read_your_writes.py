"""Who writes and then searches with the write's position finds it, or is told that it is not there yet: never neither.

Under load: a publisher keeps both lanes busy meanwhile, and the writers share the query API with searches that do not
wait. Real servers, real processes.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from schemas.records import Event
from tests.support.client import eventually
from tests.support.product import Product

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

WRITES = 500
WRITERS = 4
WAIT_MS = 5_000
WITHIN_S = 120.0


@pytest.fixture
def base() -> str:
    return f"ryw-{uuid.uuid4().hex[:8]}"


@contextmanager
def load(product: Product, base: str) -> Iterator[None]:
    """Loads of documents, one after another, and searches without a position, until the end of the block."""
    stop, failures = threading.Event(), list[BaseException]()

    def publishing() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            texts = (f"Load {number} paragraph {item}: gravel, reeds and water." for item in range(200))
            product.publish(
                [Event(product.tenant, base, f"load-{number}-{item}", text=text) for item, text in enumerate(texts)]
            )
            stop.wait(1.0)

    def searching() -> None:
        with httpx.Client(base_url=str(product.client.query.base_url), headers=product.client.query.headers) as client:
            while not stop.is_set():
                client.post("/v1/search", json={"query": "gravel", "knowledge_bases": [base]}, timeout=60)

    def kept(work: Any) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # told at the end of the block
            failures.append(error)

    threads = [threading.Thread(target=kept, args=(work,)) for work in (publishing, searching)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not failures, failures


def write(product: Product, base: str, number: int, word: str) -> str:
    """One document, by turns as a file and as a document; its position."""
    text = f"The word of this document is {word}."
    if number % 2:
        return str(product.client.upload(f"file-{number}.txt", text.encode(), base)["position"])
    return product.client.publish(f"doc-{number}", text, base)


def read_back(product: Product, base: str, word: str, position: str) -> Counter[int]:
    """Search with the position until it is found; every answer on the way is a hit or an honest 409."""
    seen: Counter[int] = Counter()
    deadline = time.monotonic() + WITHIN_S
    body = {"query": word, "knowledge_bases": [base], "mode": "keyword", "min_position": position, "wait_ms": WAIT_MS}
    while True:
        answered = product.client.query.post("/v1/search", json=body)
        seen[answered.status_code] += 1
        if answered.status_code == 200:
            texts = [hit["text"] for hit in answered.json()["hits"]]
            assert any(word in text for text in texts), f"a silent miss of {position}: {texts}"
            return seen
        assert answered.status_code == 409, answered.text
        told = answered.json()
        assert told["type"] == "/problems/not-yet-indexed", told
        assert [item["position"] for item in told["behind"]] == [position]
        assert time.monotonic() < deadline, f"{position} did not come within {WITHIN_S:g} s: {told}"
        time.sleep(float(answered.headers["Retry-After"]))


def test_every_write_is_found_by_its_position_or_said_to_be_on_its_way(product: Product, base: str) -> None:
    def one(number: int) -> Counter[int]:
        word = f"w{uuid.uuid4().hex}"
        return read_back(product, base, word, write(product, base, number, word))

    with load(product, f"{base}-load"), ThreadPoolExecutor(WRITERS) as writers:
        seen = sum(writers.map(one, range(WRITES)), Counter())

    assert seen[200] == WRITES


def test_a_change_and_a_removal_are_seen_by_their_position_too(product: Product, base: str) -> None:
    old, new = f"w{uuid.uuid4().hex}", f"w{uuid.uuid4().hex}"
    read_back(product, base, old, product.client.publish("doc", f"It says {old}.", base))
    read_back(product, base, new, product.client.publish("doc", f"It says {new}.", base))
    gone = product.client.ingest.delete("/v1/documents/doc", params={"knowledge_base": base})
    body = {"query": f"{old} {new}", "knowledge_bases": [base], "mode": "keyword", "wait_ms": 30_000}

    answered = product.client.query.post("/v1/search", json={**body, "min_position": gone.json()["position"]})

    assert (answered.status_code, answered.json().get("hits")) == (200, [])


def test_a_write_that_cannot_be_read_is_told_and_no_silent_miss(product: Product, base: str) -> None:
    position = product.client.upload("broken.pdf", b"%PDF-1.7\nnot a file at all", base)["position"]
    body = {"query": "anything", "knowledge_bases": [base], "min_position": position, "wait_ms": 30_000}

    answered = product.client.query.post("/v1/search", json=body)

    assert (answered.status_code, answered.json()["type"]) == (409, "/problems/write-failed"), answered.text
    assert answered.json()["failed"][0]["position"] == position


def test_a_position_without_a_receipt_is_found_by_the_groups_offsets(product: Product, base: str) -> None:
    # An offset below that of the very first accepted write of this test: long ended, and of no receipt's hour if the
    # process began later. What no partition holds is not there, however long one waits.
    word = f"w{uuid.uuid4().hex}"
    position = product.client.publish("doc", f"It says {word}.", base)
    read_back(product, base, word, position)
    topic, _, offset = position.partition("@")
    body = {"query": word, "knowledge_bases": [base], "mode": "keyword"}

    def found() -> None:
        older = {**body, "min_position": [f"{topic}@{at}" for at in range(int(offset) + 1)][-1000:], "wait_ms": 5_000}
        answered = product.client.query.post("/v1/search", json=older)
        assert answered.status_code == 200, answered.text

    eventually(found, 60)
    beyond = {**body, "min_position": f"{topic}@999999999", "wait_ms": 3_000}
    answered = product.client.query.post("/v1/search", json=beyond)
    assert (answered.status_code, answered.headers["Retry-After"]) == (409, "1")
