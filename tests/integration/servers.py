"""Real servers, each run exactly as the local stack runs it. All that a test needs of one is in a small record, however
it was started.

`THALWEG_TEST_WEAVIATE_URL`, `.._GRPC` and `.._KEY` name a running Weaviate to be used instead, by tests that share one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local import kafka, parts, ports, weaviate
from deploy.local.errors import NotReadyError
from deploy.local.places import Home
from deploy.local.server import Context, Server
from runtime.topics import Topics
from schemas.catalog import topics
from tests.support.child_server import ChildServer, running

_DESCRIBED = {"kafka": kafka.server, "weaviate": weaviate.server}


class RealServer(ChildServer):
    """kafka or weaviate, in a folder of its own, on free ports."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__()
        self.home = Home(folder)
        self.home.make()
        self.home.logs.mkdir(parents=True, exist_ok=True)
        names = [port for port in ports.DEFAULTS if port.startswith(name)]
        chosen = ports.choose(names, {}, defaults={}, claim=self.claims.claim)
        made = parts.prepare(parts.parts_of([name]))
        self.described: Server = _DESCRIBED[name](Context(self.home, made, chosen, {}))

    def start(self) -> None:
        """As ChildServer.start."""
        described = self.described
        if described.scratch is not None:
            described.scratch.mkdir(parents=True, exist_ok=True)
        for file, text in described.files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        if described.first_run is not None:
            described.first_run()
        environment = {**os.environ, **described.env} if described.inherit_env else dict(described.env)
        log = self.home.log(described.name)
        self.begin(described.command, log, described.probe, NotReadyError, environment)


@dataclass(frozen=True)
class WeaviateServer:
    """Where a real Weaviate answers. grpc is host:port."""

    url: str
    grpc: str
    key: str

    @classmethod
    def of(cls, server: RealServer) -> WeaviateServer:
        """Where this one answers."""
        address = server.described.address
        return cls(str(address["url"]), str(address["grpc"]), server.home.weaviate_key_file.read_text().strip())


@contextmanager
def shared_weaviate(folder: Path) -> Iterator[WeaviateServer]:
    """A real Weaviate, for tests that keep apart by generations, aliases and tenants of their own."""
    if url := os.environ.get("THALWEG_TEST_WEAVIATE_URL"):
        yield WeaviateServer(url, os.environ["THALWEG_TEST_WEAVIATE_GRPC"], os.environ["THALWEG_TEST_WEAVIATE_KEY"])
        return
    with running(RealServer("weaviate", folder)) as server:
        yield WeaviateServer.of(server)


def bootstrap_of(server: RealServer, *names: str) -> str:
    """A broker's address, once it has these topics."""
    found = str(server.described.address["bootstrap"])
    for name in names:
        Topics(found).apply(topics()[name])
    return found
