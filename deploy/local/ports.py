"""Which port each server and process listens on: the usual one, the remembered one, or a free one.

Before: the supervisor begins. After: `server.Context.ports`. A port once given is kept over restarts while it is
free, so that addresses people wrote down stay true.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import socket
import tempfile
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path

from deploy.local.errors import LocalStackError
from deploy.local.places import replace_file

DEFAULTS: Mapping[str, int] = {
    "kafka": 9092,
    "kafka_controller": 9093,
    "registry": 8081,
    "registry_management": 8084,
    "connect": 8083,
    "weaviate": 8080,
    "weaviate_grpc": 50051,
    "weaviate_gossip": 7946,
    "weaviate_data": 7947,
    "weaviate_raft": 8300,
    "weaviate_raft_rpc": 8301,
    "postgres": 5432,
    "upload": 8001,
    "query": 8000,
    "lag-exporter": 9308,
}
# Below the range from which the kernel takes ports for outgoing connections: such a connection could take the
# port of a server in the moment between its death and its restart.
FREE = range(20_000, 32_000)
TRIES = 500


class Claims:
    """Ports this process has claimed against other stacks of this user that are starting at the same moment.

    A claim is a locked file; it ends with the process. It does not stop programs that are no stack of ours.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"thalweg-ports-{os.geteuid()}"
        self._held: dict[int, int] = {}

    def claim(self, port: int) -> bool:
        """Take the port; False if another process has claimed it."""
        if port in self._held:
            return True
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._folder / str(port), flags, 0o600)
        except OSError:
            # Claims are a courtesy between our own stacks; without them only the free-port check is left.
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held[port] = descriptor
        return True

    def release(self) -> None:
        """Give all claims back."""
        for descriptor in self._held.values():
            os.close(descriptor)
        self._held.clear()


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now, on the loopback and on every address."""
    for address in ("127.0.0.1", "0.0.0.0"):  # noqa: S104 - looked at and given back
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As servers do: what lingers of closed connections is no hindrance.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def choose(
    names: Iterable[str],
    remembered: Mapping[str, int],
    *,
    defaults: Mapping[str, int] = DEFAULTS,
    free: Callable[[int], bool] = is_free,
    claim: Callable[[int], bool] = lambda _port: True,
    draw: Callable[[], int] = lambda: random.choice(FREE),  # noqa: S311 - not a secret
) -> dict[str, int]:
    """A port for each name, all different: the remembered one, else the default one, else a free one.

    A name with no default (a worker's metrics) gets a free one. Raises `LocalStackError` if none is found.
    """
    chosen: dict[str, int] = {}
    for name in names:
        wishes = [wish[name] for wish in (remembered, defaults) if name in wish]
        for port in chain(wishes, (draw() for _ in range(TRIES))):
            if port not in chosen.values() and free(port) and claim(port):
                chosen[name] = port
                break
        else:
            raise LocalStackError(
                f"No free port for {name}: {TRIES} were tried between {FREE.start} and {FREE.stop}.",
                "What holds them? See `ss -ltnp`.",
            )
    return chosen


def remember(file: Path, chosen: Mapping[str, int]) -> None:
    """Keep the choice for the next start; names chosen earlier and not this time stay."""
    replace_file(file, json.dumps({**recall(file), **chosen}, indent=2, sort_keys=True) + "\n")


def recall(file: Path) -> dict[str, int]:
    """What was remembered; nothing if the file is missing or unreadable."""
    try:
        found = json.loads(file.read_text())
        return {str(name): int(port) for name, port in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
