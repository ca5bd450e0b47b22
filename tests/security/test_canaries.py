"""Canaries: each tenant's documents hold a word of their own, and no search of another's ever brings it out.

On a real Weaviate: at rest, while a second generation is written, while the alias moves to it, and while a writer dies.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from query_api.retrieval.weaviate_index import WeaviateIndex
from query_api.retrieval.weaviate_link import WeaviateLink
from runtime.access import KnowledgeBase
from tests.integration.index_writer import IndexWriter, WordEmbedder
from tests.integration.servers import WeaviateServer, shared_weaviate
from tests.security.canaries import CANARIES, TENANTS, question, versions
from tests.unit.query_api.fakes import FakeDirectory, Parts, api_key, app_around

pytestmark = pytest.mark.real

SEED = int(os.environ.get("THALWEG_TEST_SEED", "20261122"))
QUESTIONS = 2_000
_AT_ONCE = 4
_KEYS = {"year": "number", "team": "text"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviateServer]:
    with shared_weaviate(tmp_path_factory.mktemp("weaviate")) as started:
        yield started


@pytest.fixture
def live(server: WeaviateServer) -> Iterator[IndexWriter]:
    """The live generation, with every tenant's documents in it."""
    writer = IndexWriter(server, keys=_KEYS, tenants=TENANTS)
    for tenant in TENANTS:
        writer.write(*versions(tenant, 1))
    yield writer
    writer.close()


@pytest.fixture
def beside(server: WeaviateServer) -> Iterator[IndexWriter]:
    """Another generation, still empty."""
    writer = IndexWriter(server, keys=_KEYS, tenants=TENANTS)
    yield writer
    writer.close()


@pytest.fixture
async def api(server: WeaviateServer, live: IndexWriter) -> AsyncIterator[Parts]:
    link = WeaviateLink(server.url, server.grpc, server.key, timeout_s=20)
    directory = FakeDirectory(
        known=[api_key(f"tw_{tenant}", tenant=tenant) for tenant in TENANTS],
        held=[KnowledgeBase(tenant, name) for tenant in TENANTS for name in ("handbook", f"private_{tenant}")],
    )
    parts = app_around(WeaviateIndex(link, alias=live.alias), WordEmbedder(), directory=directory)
    yield parts
    await parts.client.aclose()
    await link.close()


async def ask(api: Parts, tenant: str, body: dict[str, object], path: str = "/v1/search") -> tuple[int, str]:
    answered = await api.client.post(path, json=body, headers={"Authorization": f"Bearer tw_{tenant}"}, timeout=60)
    return answered.status_code, answered.text


async def pry(api: Parts, chance: random.Random, times: int, found: Counter[int]) -> None:
    """Searches of every tenant for what the others have; fails at the first word that comes out."""

    async def once() -> None:
        asking, of = chance.sample(TENANTS, 2)
        body = question(of, chance)
        path = "/v1/query" if chance.random() < 0.2 else "/v1/search"
        status, told = await ask(api, asking, body, path)
        others = [word for tenant, word in CANARIES.items() if tenant != asking and word in told]
        assert others == [], f"seed {SEED}: {asking} got {others} by {path} {body}"
        found[status] += 1

    for _ in range(times // _AT_ONCE):
        await asyncio.gather(*(once() for _ in range(_AT_ONCE)))


async def owners_find_their_own(api: Parts) -> None:
    """Else nobody would find anything, and nothing would be shown."""
    for tenant, word in CANARIES.items():
        for mode in ("hybrid", "vector", "keyword"):
            status, told = await ask(api, tenant, {"query": f"budget {word}", "mode": mode})
            assert (status, word in told) == (200, True), f"{tenant} does not find its own by {mode}"


def rebuilding(beside: IndexWriter) -> Callable[[], None]:
    def write() -> None:
        for tenant in TENANTS:
            beside.write(*versions(tenant, 1))

    return write


def writer_beside(server: WeaviateServer, alias: str) -> subprocess.Popen[str]:
    """A process that writes new versions of all that the tenants have."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.security.canary_writer", server.url, server.grpc, alias],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(f"{server.key}\n")
    process.stdin.flush()
    return process


@pytest.mark.timeout(900)
async def test_no_search_of_anothers_finds_a_canary_whatever_it_asks_and_whatever_goes_on(
    api: Parts, live: IndexWriter, beside: IndexWriter, server: WeaviateServer
) -> None:
    chance, found, part = random.Random(SEED), Counter[int](), QUESTIONS // 5  # no secret
    await owners_find_their_own(api)
    await pry(api, chance, part, found)

    await asyncio.gather(asyncio.to_thread(rebuilding(beside)), pry(api, chance, part, found))
    await asyncio.gather(asyncio.to_thread(live.hand_over, beside), pry(api, chance, part, found))
    await owners_find_their_own(api)

    dying = await asyncio.to_thread(writer_beside, server, beside.alias)
    try:
        assert dying.stdout is not None
        assert await asyncio.to_thread(dying.stdout.readline) == "written\n"
        # Nobody reads on: it writes until the pipe is full or it is killed, whatever it is at.
        await pry(api, chance, part, found)
        assert dying.poll() is None
    finally:
        dying.kill()
        dying.wait(10)
    await pry(api, chance, part, found)
    await owners_find_their_own(api)

    assert sum(found.values()) == QUESTIONS
    assert found[200] > QUESTIONS / 4, found
    assert set(found) <= {200, 404, 422}, found
