"""One supervisor a home, and a clean field for it.

Before: `supervisor` is started. After: it alone writes the state file, and nothing of an earlier one runs.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress

import psutil

from deploy.local import state
from deploy.local.places import Home

LEFTOVER_WAIT_S = 10.0


def take_home(home: Home) -> int | None:
    """Lock the home for this process; None if another supervisor has it. The lock ends with the process."""
    descriptor = os.open(home.supervisor_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # `state.supervisor_pid` holds a shared lock for a moment while it asks.
    for _ in range(20):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return descriptor
        time.sleep(0.05)
    os.close(descriptor)
    return None


def end_leftovers(home: Home) -> None:
    """End what an earlier supervisor of this home left behind, told by process id and birth.

    The kernel has done so already unless a child changed its own mind about it. Bounded by `LEFTOVER_WAIT_S`.
    """
    last = state.read(home)
    if last is None:
        return
    left = []
    for record in (*last["servers"].values(), *last["processes"].values()):
        with suppress(psutil.NoSuchProcess, KeyError, TypeError):
            process = psutil.Process(record["pid"])
            if abs(process.create_time() - record["born"]) < 1:
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=LEFTOVER_WAIT_S)
