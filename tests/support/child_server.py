"""A real server as a child of the test, to be killed, frozen and started at will.

Before this: a program. After this: `valkey_server.py`, and the servers of `tests/integration`.
"""

from __future__ import annotations

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from deploy.local import ports

_READY_S = 120.0


class ChildServer(ABC):
    """One process at a time. Where it answers stays the same when it is started again."""

    def __init__(self) -> None:
        self.claims = ports.Claims()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it answers its own protocol; fails with the end of its log."""

    def begin(
        self,
        command: Sequence[str],
        log: Path,
        probe: Callable[[], object],
        not_yet: type[Exception],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """What `start` does: probe raises not_yet until the server answers. environment None: the test's own."""
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                probe()
            except not_yet as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    tail = log.read_text(errors="replace")[-2000:]
                    raise AssertionError(f"{command[0]} did not get ready: {error}\n{tail}") from error
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """Stop it where it stands: connections stay open, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it in good order, and give its ports back."""
        if self._process is not None:
            self.thaw()
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self.claims.release()


Started = TypeVar("Started", bound=ChildServer)


@contextmanager
def running(server: Started) -> Iterator[Started]:
    """The server, started; ended at the end."""
    try:
        server.start()
        yield server
    finally:
        server.close()
