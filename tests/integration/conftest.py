"""Real servers for the integration tests. All that a test needs of one is in a small record, however it was started.

`THALWEG_TEST_WEAVIATE_URL`, `.._GRPC` and `.._KEY` name a running Weaviate; else one is started for this folder, as the
local stack starts it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.integration.servers import RealServer


@dataclass(frozen=True)
class WeaviateServer:
    """Where a real Weaviate answers. grpc is host:port."""

    url: str
    grpc: str
    key: str


@pytest.fixture(scope="package")
def weaviate_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviateServer]:
    """A real Weaviate, shared by this folder: tests keep apart by generations, aliases and tenants of their own."""
    if url := os.environ.get("THALWEG_TEST_WEAVIATE_URL"):
        yield WeaviateServer(url, os.environ["THALWEG_TEST_WEAVIATE_GRPC"], os.environ["THALWEG_TEST_WEAVIATE_KEY"])
        return
    server = RealServer("weaviate", tmp_path_factory.mktemp("weaviate"))
    try:
        server.start()
        address = server.described.address
        key = server.home.weaviate_key_file.read_text().strip()
        yield WeaviateServer(str(address["url"]), str(address["grpc"]), key)
    finally:
        server.close()


@pytest.fixture(scope="module")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A real broker of the module's own, which a test may kill and start again; it leaves it running."""
    server = RealServer("kafka", tmp_path_factory.mktemp("kafka"))
    try:
        server.start()
        yield server
    finally:
        server.close()
