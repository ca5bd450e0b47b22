"""The index worker under kill -9: whatever it was doing, at rest the index equals the table exactly.

`THALWEG_TEST_SEED` repeats a run; the seed is printed when a test fails.
"""

from __future__ import annotations

import os
import random
import signal
import time
from functools import partial

import psutil
import pytest

from tests.faults.random_writes import SOURCE, TABLE, RandomWrites
from tests.support.client import eventually
from tests.support.product import Product
from tests.support.quiesce import Receipts
from tests.support.source import make_source

CHANGES, KILLS = 500, 10
PER_KILL = CHANGES // KILLS
PACE_S = 25.0 / CHANGES
REST_S = 120.0
PROGRESS_S = 60.0


def committed(product: Product) -> int:
    """How far the index workers have acknowledged, over all partitions, as the broker knows it."""
    return sum(lag.committed or 0 for lag in product.topics.lag("thalweg-index", ["documents"]))


def has_moved(product: Product, since: int) -> bool:
    """Whether more is acknowledged than `since`."""
    return committed(product) > since


def index_worker(product: Product, before: psutil.Process | None) -> psutil.Process:
    """The index worker that runs now, once it is another one than before."""

    def other() -> psutil.Process:
        pid = product.process("index")["pid"]
        assert pid is not None
        assert before is None or pid != before.pid, "the supervisor has not started another worker"
        return psutil.Process(pid)

    return eventually(other, PROGRESS_S)


def kill(worker: psutil.Process) -> None:
    """kill -9, and proof that it bit."""
    assert worker.is_running(), "it ended by itself"
    os.kill(worker.pid, signal.SIGKILL)
    eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 10)


@pytest.mark.real
@pytest.mark.timeout(480, func_only=True)
def test_ten_kills_among_500_changes_leave_the_index_exact(product: Product, receipts: Receipts) -> None:
    seed = int(os.environ.get("THALWEG_TEST_SEED", "0")) or random.randrange(1, 2**32)
    print(f"seed: THALWEG_TEST_SEED={seed}")
    rng = random.Random(seed)
    with make_source(product, receipts, "killed", TABLE, **SOURCE) as source:
        source.apply()
        writes, kills = RandomWrites(source, rng), 0
        worker: psutil.Process | None = None
        acknowledged = committed(product)
        for _ in range(KILLS):
            begin, burst = rng.randrange(5, PER_KILL - 5), rng.randrange(5)
            for number in range(PER_KILL):
                if number == begin:
                    worker = index_worker(product, worker)
                    eventually(partial(has_moved, product, acknowledged), PROGRESS_S)
                writes.one()
                if not begin <= number <= begin + burst:
                    time.sleep(PACE_S)
                elif number == begin + burst and worker is not None:
                    # The burst is on its way through the stages: the kill meets the worker somewhere in it.
                    time.sleep(rng.uniform(0.0, 0.4))
                    kill(worker)
                    acknowledged = committed(product)
                    kills += 1
        assert (writes.changes, kills) == (CHANGES, KILLS)

        source.settle(CHANGES, REST_S)
        source.verify(REST_S)
