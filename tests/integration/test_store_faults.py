"""The query API while its store hangs, dies and comes back: honest 503s in time, and no help needed afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest
from weaviate import WeaviateAsyncClient

from query_api.retrieval.ports import IndexUnavailable
from query_api.retrieval.weaviate_index import WeaviateIndex
from query_api.retrieval.weaviate_link import WeaviateLink
from tests.integration.index_writer import IndexWriter, Version, WordEmbedder
from tests.integration.servers import RealServer, WeaviateServer
from tests.support.child_server import running
from tests.unit.query_api.fakes import Parts, app_around

pytestmark = pytest.mark.real

CALL_S = 1.0


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with running(RealServer("weaviate", tmp_path_factory.mktemp("store"))) as server:
        yield server


async def ask(parts: Parts) -> tuple[int, float]:
    """(status, seconds) of one search."""
    started = time.monotonic()
    answered = await parts.client.post("/v1/search", json={"query": "budget", "mode": "keyword"})
    return answered.status_code, time.monotonic() - started


async def until_answered(parts: Parts, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while (await ask(parts))[0] != 200:
        assert time.monotonic() < deadline, f"no answer within {within_s} s"
        await asyncio.sleep(0.2)


async def test_a_store_that_hangs_or_dies_is_told_in_time_and_found_again(store: RealServer) -> None:
    server = WeaviateServer.of(store)
    writer = IndexWriter(server, keys={}, tenants=["acme"])
    writer.write(Version("plan", ["budget is nine"], 1))
    link = WeaviateLink(server.url, server.grpc, server.key, timeout_s=CALL_S)
    parts = app_around(WeaviateIndex(link, alias=writer.alias), WordEmbedder())
    await until_answered(parts, 10)

    store.freeze()
    found = [await asyncio.gather(*(ask(parts) for _ in range(10))) for _ in range(4)]
    store.thaw()

    slowest = [max(seconds for _, seconds in round_) for round_ in found]
    assert all(status == 503 for round_ in found for status, _ in round_)
    assert max(slowest) < 2 * CALL_S + 1.5
    assert min(slowest) < 0.5  # refused at once, once it is known
    await until_answered(parts, 20)

    async def dies_under_it(client: WeaviateAsyncClient) -> None:
        raise httpx.ReadError("[Errno 104] Connection reset by peer")

    with pytest.raises(IndexUnavailable):
        await link.call(dies_under_it)
    await until_answered(parts, 20)

    store.kill()
    assert (await ask(parts))[0] == 503
    store.start()
    await until_answered(parts, 20)
    await link.close()
