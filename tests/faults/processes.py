"""The product's processes under a test's hands: killed, held down, stopped and let go on, by process id.

Before this: the local stack, whose supervisor starts again what ends. After this: the faults.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka.admin import AdminClient

from deploy.local.apps import code_root
from deploy.local.logs import tail
from deploy.local.stack import Stack
from tests.support.client import eventually

BACK_S = 90.0
_GONE = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not waited for yet does not."""
    try:
        return psutil.Process(pid).status() not in _GONE
    except psutil.NoSuchProcess:
        return False


class Processes:
    """Servers and processes of one stack, by name. Counts what it killed, to tell it from what ended by itself."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.killed: Counter[str] = Counter()
        self.down: set[str] = set()
        self._restarts: dict[str, int] = {}

    def begin(self) -> None:
        """From now on ends and kills are counted."""
        self.killed.clear()
        self.down.clear()
        self._restarts = {name: int(record["restarts"]) for name, record in self._records().items()}

    def servers(self) -> list[str]:
        """The names of the servers."""
        return sorted(self._stack.state()["servers"])

    def own(self) -> list[str]:
        """The names of our own processes."""
        return sorted(self._stack.state()["processes"])

    def live(self, name: str, *, other_than: int | None = None, within_s: float = BACK_S) -> int:
        """The id of the process of this name, once one serves that is another than `other_than`."""
        return int(self._stack.wait_ready(name, within_s, other_than_pid=other_than)["pid"])

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a live one the signal (kill -9); returns its id once it is gone. Fails if it had ended by itself."""
        pid = self.live(name)
        self.down.add(name)
        self.killed[name] += 1
        os.kill(pid, number)
        eventually(lambda: not alive(pid), 40)
        return pid

    def hold_down(self, name: str, seconds: float) -> int:
        """Kill it, and each that the supervisor starts in its place, for so long; returns how many died."""
        self.kill(name)
        deaths, until = 1, time.monotonic() + seconds
        while time.monotonic() < until:
            pid = self._records()[name]["pid"]
            if pid is not None and alive(int(pid)):
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
                    self.killed[name] += 1
                    deaths += 1
            time.sleep(0.1)
        return deaths

    def stop(self, name: str) -> int:
        """SIGSTOP a live one; returns its id once it stands still."""
        pid = self.live(name)
        self.down.add(name)
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, 10)
        return pid

    def go_on(self, pid: int) -> None:
        """SIGCONT; one that is gone is let be."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def ended_by_themselves(self) -> dict[str, int]:
        """How often each process ended without our doing since `begin`; capture does so when sources change."""
        found = {
            name: int(record["restarts"]) - self._restarts.get(name, 0) - self.killed[name]
            for name, record in self._records().items()
        }
        return {name: count for name, count in found.items() if count > 0}

    def log_of(self, name: str, lines: int = 40) -> str:
        """The end of its log."""
        return tail(Path(self._records()[name]["log"]), lines)

    def _records(self) -> dict[str, dict[str, Any]]:
        now = self._stack.state()
        return {**now["servers"], **now["processes"]}


def assignment(bootstrap: str, group: str) -> dict[str, set[tuple[str, int]]]:
    """What partitions each member of a group has, by client id, as the group's coordinator knows it."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    described = admin.describe_consumer_groups([group], request_timeout=10)[group].result(10)
    return {
        member.client_id: {(p.topic, p.partition) for p in member.assignment.topic_partitions}
        for member in described.members or []
    }


class FurtherWorker:
    """Another worker of a stage, beside the supervised one; nobody starts it again."""

    def __init__(self, stack: Stack, environment: Mapping[str, str], stage: str, name: str) -> None:
        self.name = name
        self._log = stack.home.log(name)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "thalweg", "worker", stage, "--name", name],
                env={**environment, **stack.environment(), "PYTHONPATH": str(code_root())},
                cwd=stack.home.run,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end(self, number: signal.Signals = signal.SIGTERM, within_s: float = 40.0) -> int:
        """Send it the signal; its exit status. Killed if it does not end in time, which fails."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise AssertionError(f"{self.name} did not end within {within_s:g} s") from None

    def log(self) -> str:
        """The end of its log."""
        return tail(self._log, 15)


@contextmanager
def further_worker(
    stack: Stack, environment: Mapping[str, str], stage: str, name: str, **variables: str
) -> Iterator[FurtherWorker]:
    """A further worker, ended at the end. variables: more environment."""
    made = FurtherWorker(stack, {**environment, **variables}, stage, name)
    try:
        yield made
    finally:
        made.end()
