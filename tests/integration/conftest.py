"""Real servers for the integration tests. Everything a test needs of one is in a small record, however it was started.

`THALWEG_TEST_WEAVIATE_URL`, `.._GRPC` and `.._KEY` name a running server; else one is started for the session, as the
local stack starts it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local import parts, ports, weaviate
from deploy.local.errors import NotReadyError
from deploy.local.places import Home
from deploy.local.server import Context

_STARTS_WITHIN_S = 120.0


@dataclass(frozen=True)
class WeaviateServer:
    """Where a real Weaviate answers. grpc is host:port."""

    url: str
    grpc: str
    key: str


@pytest.fixture(scope="session")
def weaviate_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviateServer]:
    """A real Weaviate, shared by the session: tests keep apart by generations, aliases and tenants of their own."""
    if url := os.environ.get("THALWEG_TEST_WEAVIATE_URL"):
        yield WeaviateServer(url, os.environ["THALWEG_TEST_WEAVIATE_GRPC"], os.environ["THALWEG_TEST_WEAVIATE_KEY"])
        return
    home = Home(tmp_path_factory.mktemp("weaviate"))
    home.make()
    names = [name for name in ports.DEFAULTS if name.startswith("weaviate")]
    claims = ports.Claims()
    chosen = ports.choose(names, {}, defaults={}, claim=claims.claim)
    described = weaviate.server(Context(home, parts.prepare(["weaviate"]), chosen, {}))
    if described.first_run is not None:
        described.first_run()
    log = home.log("weaviate")
    with log.open("wb") as output:
        process = subprocess.Popen(described.command, env=dict(described.env), stdout=output, stderr=output)
    try:
        _wait_ready(process, described.probe, log)
        yield WeaviateServer(
            str(described.address["url"]), str(described.address["grpc"]), home.weaviate_key_file.read_text().strip()
        )
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        claims.release()


def _wait_ready(process: subprocess.Popen[bytes], probe: object, log: Path) -> None:
    assert callable(probe)
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while True:
        try:
            probe()
        except NotReadyError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-2000:]
                pytest.fail(f"Weaviate did not get ready: {error}\n{tail}")
            time.sleep(0.2)
        else:
            return
