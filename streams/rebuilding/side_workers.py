"""Feeds every generation that is not live: one child process `thalweg worker index --generation NAME` for each.

Before this: `thalweg rebuild` makes, promotes and prunes generations. After this: `index_parts.py` in each child. This
process sits idle while there is nothing but the live generation, and loads neither Faust nor a model.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import structlog

log = structlog.get_logger()

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
WELL_AFTER_S = 60.0
"""A child that lived so long is well: its next start waits as little as a first one's."""

STOP_S = 25.0


class Child(Protocol):
    """A process, as subprocess.Popen is one."""

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        ...

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """End it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises subprocess.TimeoutExpired."""
        ...


@dataclass
class _Kept:
    child: Child
    started: float


@dataclass
class SideWorkers:
    """Keeps one child for each wanted generation. spawn starts one; forget deletes the group of one that ended."""

    spawn: Callable[[str], Child]
    forget: Callable[[str], bool]
    monotonic: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random
    _running: dict[str, _Kept] = field(default_factory=dict)
    _due: dict[str, tuple[float, float]] = field(default_factory=dict)
    _forgotten: set[str] = field(default_factory=set)

    def look(self, wanted: Collection[str], live: str) -> None:
        """One look: start what is missing or has ended, stop what is not wanted. live: whose group is done with.

        A child ends by itself when its generation goes live or away; that is not waited for again.
        """
        for name in list(self._running):
            kept = self._running[name]
            status = kept.child.poll()
            if status is None and name not in wanted:
                self._stop(name)
            elif status is not None:
                del self._running[name]
                lived = self.monotonic() - kept.started
                wait = FIRST_WAIT_S if lived > WELL_AFTER_S else self._due.get(name, (0.0, FIRST_WAIT_S))[1]
                self._due[name] = (
                    self.monotonic() + wait * (0.5 + self.jitter() / 2),
                    min(wait * 2, LONGEST_WAIT_S),
                )
                if name in wanted:
                    log.warning("side_worker_ended", generation=name, status=status, again_in_s=wait)
        for name in wanted:
            if name not in self._running and self.monotonic() >= self._due.get(name, (0.0, 0.0))[0]:
                log.info("side_worker_starts", generation=name)
                self._running[name] = _Kept(self.spawn(name), self.monotonic())
        self._due = {name: due for name, due in self._due.items() if name in wanted}
        self._forgotten &= {live}
        # What it had read is known to the main group too; a later promotion gives its group new offsets.
        if live not in self._running and live not in self._forgotten and self.forget(live):
            self._forgotten.add(live)

    def stop(self) -> None:
        """End all children: each finishes the batch it has in hand."""
        for kept in self._running.values():
            if kept.child.poll() is None:
                kept.child.terminate()
        for name in list(self._running):
            self._stop(name)

    def _stop(self, name: str) -> None:
        child = self._running.pop(name).child
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                log.warning("side_worker_killed", generation=name)
                child.kill()
                child.wait()
        log.info("side_worker_stopped", generation=name)


def spawn(name: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """A side worker of this program. Its health and metrics are at a free port, which its first line tells."""
    given = os.environ if environment is None else environment
    command = [sys.executable, "-m", "thalweg", "worker", "index", "--generation", name]
    return subprocess.Popen(command, env={**given, "THALWEG_METRICS__PORT": "0"})


def keep(
    workers: SideWorkers,
    wanted: Callable[[], tuple[Collection[str], str] | None],
    stopping: threading.Event,
    *,
    every_s: float = 2.0,
    looked: Callable[[], None] = lambda: None,
) -> None:
    """Look every so often until told to stop. wanted: names and the live one; None: not known now, all stays."""
    while not stopping.wait(every_s * random.uniform(0.8, 1.2)):  # noqa: S311  jitter is no secret
        found = wanted()
        if found is not None:
            workers.look(*found)
            looked()
    workers.stop()
