"""What `thalweg status` computes from metrics pages, and that nothing that is down holds it up."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from deploy.local.places import Home
from deploy.local.state import Phase, StackState, current
from runtime.metrics import declare
from thalweg.status import Scrape, measure, rate, read_page


def test_the_pages_of_our_own_metrics_are_understood() -> None:
    metrics = declare(CollectorRegistry())
    metrics.documents.labels(stage="index", outcome="indexed").inc(3)
    metrics.documents.labels(stage="index", outcome="deleted").inc(2)
    metrics.queue_depth.labels(stage="capture").set(7)

    found = read_page(generate_latest(metrics.registry).decode(), at=1.0)

    assert found.ended == {"index": 5.0}
    assert found.depth == {"capture": 7.0}


def test_rates_of_several_workers_add_up() -> None:
    before = [Scrape(10.0, {"index": 100.0}), Scrape(10.0, {"index": 5.0})]
    after = [Scrape(12.0, {"index": 110.0}), Scrape(12.0, {"index": 5.0})]

    assert rate(before, after, "index") == 5.0


def test_a_worker_that_did_not_answer_twice_is_left_out_and_none_is_not_zero() -> None:
    page = Scrape(10.0, {"index": 100.0})

    assert rate([page, None], [Scrape(11.0, {"index": 103.0}), page], "index") == 3.0
    assert rate([page], [None], "index") is None


def test_a_worker_that_was_started_anew_has_no_negative_rate() -> None:
    assert rate([Scrape(10.0, {"index": 100.0})], [Scrape(11.0, {"index": 2.0})], "index") == 0.0


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        for connection in taken:
            connection.close()


@pytest.fixture
def closed() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def state_of(home: Path, url: str) -> StackState:
    """A stack all of whose processes are at this address."""
    state = current(Home(home))
    state["phase"] = Phase.READY
    state["apis"] = {"query": url}
    for stage in ("capture", "parse", "index"):
        state["processes"][stage] = {"stage": stage, "metrics": f"{url}/metrics", "pid": 1}
    state["processes"]["lag-exporter"] = {"metrics": f"{url}/metrics", "pid": 1}
    return state


@pytest.mark.parametrize("how", ["silent", "closed"])
def test_measuring_what_is_down_is_over_in_four_seconds_and_knows_nothing(
    how: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    state = state_of(tmp_path, request.getfixturevalue(how))

    began = time.monotonic()
    found = measure(state)

    assert time.monotonic() - began < 4.5
    assert {name: dict(stage) for name, stage in found["stages"].items()} == {
        name: {"lag": None, "rate": None, "dead_letter_budget": None} for name in ("capture", "parse", "index")
    }
    assert found["generation"] is None
    assert found["freshness"] == {"p50": None, "p95": None}
