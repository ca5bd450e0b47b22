"""Real servers for the integration tests; `bootstrap` is each module's own, with the topics that it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtime.producer import ConfirmedProducer
from tests.integration.servers import RealServer, WeaviateServer, shared_weaviate
from tests.support.child_server import running


@pytest.fixture(scope="package")
def weaviate_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviateServer]:
    """A real Weaviate, shared by this folder."""
    with shared_weaviate(tmp_path_factory.mktemp("weaviate")) as server:
        yield server


@pytest.fixture(scope="module")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A real broker of the module's own, which a test may kill and start again; it leaves it running."""
    with running(RealServer("kafka", tmp_path_factory.mktemp("kafka"))) as server:
        yield server


@pytest.fixture
def producer(bootstrap: str) -> Iterator[ConfirmedProducer]:
    """To the module's broker."""
    with ConfirmedProducer(bootstrap, client_id="test") as made:
        yield made
