"""A bad deploy, as the topic sees it: everything is rejected, and neither the first life nor the next ones drain it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.apps import code_root
from deploy.local.ports import Claims, choose
from runtime.commands import apply_topics
from runtime.producer import ConfirmedProducer, Outgoing
from runtime.settings import load_settings
from tests.integration.servers import RealServer, bootstrap_of
from tests.support.client import eventually
from tests.support.dlq import records_of

pytestmark = [pytest.mark.real, pytest.mark.timeout(240, func_only=True)]

POISON, LIMIT = 40, 10


@pytest.fixture
def claims() -> Iterator[Claims]:
    made = Claims()
    try:
        yield made
    finally:
        made.release()


@contextmanager
def worker(environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One life of a capture worker."""
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "thalweg", "worker", "capture", "--name", "capture-1"],
            env=environment, cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(40)


def test_a_worker_that_rejects_everything_stops_and_its_next_life_writes_no_more_letters(
    kafka_server: RealServer, claims: Claims, tmp_path: Path
) -> None:
    bootstrap = bootstrap_of(kafka_server)
    port = choose(["probe"], {}, defaults={}, claim=claims.claim)["probe"]
    claims.release()
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(code_root()),
        "PYTHONUNBUFFERED": "1",
        "THALWEG_HOME": str(tmp_path / "home"),
        "THALWEG_KAFKA__BOOTSTRAP": bootstrap,
        "THALWEG_METRICS__PORT": str(port),
        "THALWEG_STAGE__DEAD_LETTERS_PER_HOUR": str(LIMIT),
    }
    apply_topics(load_settings(environment))
    with ConfirmedProducer(bootstrap, client_id="tests") as producer:
        producer.send(Outgoing("events", b"key", b"poison %d" % number) for number in range(POISON))

    def letters() -> list[tuple[str | None, str | None]]:
        found = records_of(bootstrap, "dead-letters", 3)
        return [(r.header("__streams.errors.partition"), r.header("__streams.errors.offset")) for r in found]

    with worker(environment, tmp_path) as process:
        assert process.wait(90) == 70, (tmp_path / "worker.log").read_text()[-2000:]
    assert len(letters()) == LIMIT

    with worker(environment, tmp_path) as process:

        def stands_still() -> None:
            assert process.poll() is None, (tmp_path / "worker.log").read_text()[-2000:]
            try:
                answered = httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5, trust_env=False)
                page = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5, trust_env=False).text
            except httpx.HTTPError as error:
                raise AssertionError(repr(error)) from error
            assert answered.status_code == 503
            assert "10 an hour: the limit is reached" in answered.text
            assert [
                sample.value
                for family in text_string_to_metric_families(page)
                for sample in family.samples
                if sample.name == "thalweg_dead_letter_budget"
            ] == [0]

        eventually(stands_still, 90)
        assert len(letters()) == len(set(letters())) == LIMIT
