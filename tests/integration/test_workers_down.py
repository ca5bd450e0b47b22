"""All stage workers stand still: questions are answered, inputs accepted, the queues grow; then all is caught up."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from streams.pipeline import STAGES
from tests.support.client import eventually
from tests.support.product import Product
from tests.support.quiesce import Receipts, quiesce

pytestmark = [pytest.mark.real, pytest.mark.timeout(240, func_only=True)]

UPLOADS, EVENTS = 5, 7


@contextmanager
def standing_still(product: Product) -> Iterator[None]:
    """Every worker stopped (SIGSTOP), and let go on again whatever happens."""
    workers = [psutil.Process(product.process(stage.name)["pid"]) for stage in STAGES]
    try:
        for worker in workers:
            os.kill(worker.pid, signal.SIGSTOP)
        eventually(lambda: all(worker.status() == psutil.STATUS_STOPPED for worker in workers), 10)
        yield
        assert all(worker.status() == psutil.STATUS_STOPPED for worker in workers), "a worker went on"
    finally:
        for worker in workers:
            if worker.is_running():
                os.kill(worker.pid, signal.SIGCONT)


def depth(product: Product, stage: str) -> float:
    """What the lag exporter says."""
    return product.metric("lag-exporter", "thalweg_queue_depth", stage=stage)


def test_apis_serve_while_all_workers_stand_still_and_all_is_caught_up_later(
    product: Product, receipts: Receipts
) -> None:
    client, base = product.client, f"down-{uuid.uuid4().hex[:8]}"
    first = client.publish("before", "Said before anybody stood still: earlyword.", base)
    quiesce(product, receipts, [first])
    eventually(lambda: all(depth(product, stage.name) == 0 for stage in STAGES), 30)

    with standing_still(product):
        positions = [client.publish(f"event-{n}", f"Said to nobody: eventword{n}.", base) for n in range(EVENTS)]
        uploads = [client.upload(f"file-{n}.txt", f"Filed: fileword{n}.".encode(), base) for n in range(UPLOADS)]
        positions += [answer["position"] for answer in uploads]

        assert [hit["document_id"] for hit in client.search("earlyword", base, mode="keyword")] == ["before"]
        assert client.search("eventword3", base, mode="keyword") == []
        assert client.upload_state(uploads[0]["upload_id"])["state"] == "received"
        eventually(lambda: depth(product, "capture") == EVENTS and depth(product, "parse") == UPLOADS, 30)
        behind = client.query.post(
            "/v1/search",
            json={"query": "eventword3", "knowledge_bases": [base], "min_position": positions[3], "wait_ms": 100},
        )
        assert (behind.status_code, behind.json()["type"]) == (409, "/problems/not-yet-indexed")

    quiesce(product, receipts, positions, within_s=90)
    eventually(lambda: all(depth(product, stage.name) == 0 for stage in STAGES), 30)
    for n in range(EVENTS):
        assert [hit["document_id"] for hit in client.search(f"eventword{n}", base, mode="keyword")] == [f"event-{n}"]
    for n in range(UPLOADS):
        assert [hit["document_id"] for hit in client.search(f"fileword{n}", base, mode="keyword")] == [f"file-{n}.txt"]
