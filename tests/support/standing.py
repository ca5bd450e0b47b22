"""Workers that stand still: alive, and doing nothing, as on a machine that was frozen.

Before this: a running product. After this: tests of queues that grow, and of what is caught up later.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.support.client import eventually
from tests.support.product import Product


@contextmanager
def standing_still(product: Product, *names: str) -> Iterator[None]:
    """These processes of ours stopped (SIGSTOP), and let go on again whatever happens."""
    workers = [psutil.Process(product.process(name)["pid"]) for name in names]
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
