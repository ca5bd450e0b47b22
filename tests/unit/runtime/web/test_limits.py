"""Rates: who is counted with whom, what a refusal says, and what goes on while the shared store is away."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from runtime.access import SCOPES, Principal
from runtime.metrics import declare
from runtime.settings import Limits
from runtime.web.limits import Holder, RateLimits
from runtime.web.problems import Problem
from tests.support.valkey_server import running_valkey
from tests.unit.connectors.upload_api.world import EDITOR, upload_world
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex
from tests.unit.query_api.fakes import FakeDirectory, Parts, api_key, app_around

NO_TENANT = {"per_tenant": 0}


def person(subject: str = "ann", tenant: str = "acme", *, admin: bool = False) -> Principal:
    return Principal(subject, tenant, frozenset(SCOPES if admin else ("query",)), {})


def rates(settings: Limits | None = None, **more: float) -> RateLimits:
    return RateLimits(settings or Limits(), declare(CollectorRegistry()), **more)


async def passed(limits: RateLimits, caller: Principal, holder: Holder, times: int, *, write: bool = False) -> int:
    """How many of so many requests get through."""
    through = 0
    for _ in range(times):
        try:
            await limits.admit(caller, holder, caller.subject, write=write)
            through += 1
        except Problem as problem:
            if problem.status != 429:
                raise
    return through


@pytest.mark.parametrize(("holder", "most"), [("user", 70), ("key", 110)])
async def test_a_user_has_60_a_minute_and_a_key_100_and_10_more_in_a_burst(holder: Holder, most: int) -> None:
    assert await passed(rates(), person(), holder, 150) == most


async def test_callers_are_counted_apart_and_so_are_namesakes_of_two_tenants() -> None:
    limits = rates(Limits(per_key=2, burst=0))

    got = [
        await passed(limits, person(name, tenant), "key", 5)
        for name, tenant in [("ann", "acme"), ("bob", "acme"), ("ann", "other")]
    ]

    assert got == [2, 2, 2]


async def test_a_tenants_callers_share_what_the_tenant_has() -> None:
    limits = rates(Limits(per_key=5, per_tenant=7, burst=0))

    assert [await passed(limits, person(name), "key", 5) for name in ("ann", "bob")] == [5, 2]
    assert await passed(limits, person("zoe", "other"), "key", 5) == 5


async def test_an_administrator_is_not_counted_unless_told_and_uses_up_nothing_of_the_tenants() -> None:
    limits = rates(Limits(per_tenant=20, burst=0))
    assert await passed(limits, person(admin=True), "key", 500) == 500
    assert await passed(limits, person("bob"), "key", 100) == 20

    told = rates(Limits(per_administrator=3, burst=0))
    assert await passed(told, person(admin=True), "key", 10) == 3


async def test_nought_is_no_limit() -> None:
    assert await passed(rates(Limits(per_key=0, per_tenant=0)), person(), "key", 300) == 300


async def test_a_refusal_says_when_to_come_back_and_then_it_is_true() -> None:
    limits = rates(Limits(per_key=3, burst=0, **NO_TENANT), window_s=1)
    for _ in range(3):
        await limits.admit(person(), "key", "ann", write=False)
    with pytest.raises(Problem) as refused:
        await limits.admit(person(), "key", "ann", write=False)

    assert refused.value.status == 429
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 2
    await asyncio.sleep(int(refused.value.headers["Retry-After"]))
    assert await passed(limits, person(), "key", 1) == 1


def limited(**settings: int) -> Parts:
    people = FakeDirectory(known=[api_key("tw_reader"), api_key("tw_other"), api_key("tw_admin", scopes=SCOPES)])
    return app_around(FakeIndex(), FakeEmbedder(), directory=people, rates=Limits(**settings))


async def search(parts: Parts, key: str = "tw_reader") -> httpx.Response:
    return await parts.client.post("/v1/search", json={"query": "q"}, headers={"Authorization": f"Bearer {key}"})


async def test_the_query_api_tells_what_is_left_and_refuses_with_a_problem() -> None:
    parts = limited(per_key=1, burst=1)

    first, second, third = [await search(parts) for _ in range(3)]

    assert [first.status_code, second.status_code, third.status_code] == [200, 200, 429]
    assert first.headers["RateLimit-Policy"] == '"key";q=2;w=60'
    assert first.headers["RateLimit"].startswith('"key";r=1;t=')
    assert second.headers["RateLimit"].startswith('"key";r=0;t=')
    assert third.headers["Content-Type"] == "application/problem+json"
    told = third.json()
    assert (told["type"], told["limit"], told["requests"]) == ("/problems/too-many-requests", "key", 2)
    assert 1 <= int(third.headers["Retry-After"]) <= 120
    assert parts.metrics.rate_limited.labels(limit="key")._value.get() == 1
    assert (await search(parts, "tw_other")).status_code == 200


async def test_a_refused_mistake_counts_too_and_a_stranger_for_nobody() -> None:
    parts = limited(per_key=1, burst=0)
    assert (await search(parts, "tw_unknown")).status_code == 401
    bad = await parts.client.post("/v1/search", json={}, headers={"Authorization": "Bearer tw_reader"})

    assert bad.status_code == 422
    assert (await search(parts)).status_code == 429


async def test_the_upload_api_refuses_as_well(tmp_path: Path) -> None:
    async with upload_world(tmp_path, rates=Limits(per_key=1, burst=0)) as world:
        body = {"text": "t", "knowledge_base": "shop"}
        put = [await world.client.put(f"/v1/documents/{n}", json=body, headers={"X-API-Key": EDITOR}) for n in range(2)]

    assert [answered.status_code for answered in put] == [202, 429]
    assert put[1].headers["Retry-After"]
    assert len(world.log.events) == 1


@pytest.fixture
def nobody_listens() -> SecretStr:
    """The address of a store that is away: its port is taken, and refuses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return SecretStr(f"valkey://127.0.0.1:{taken.getsockname()[1]}/0")


async def test_while_the_store_is_away_reads_are_bounded_here_and_writes_wait(nobody_listens: SecretStr) -> None:
    limits = rates(Limits(per_key=5, burst=0, url=nobody_listens))

    assert await passed(limits, person(), "key", 20) == 5
    with pytest.raises(Problem) as refused:
        await limits.admit(person("bob"), "key", "bob", write=True)
    assert (refused.value.kind, refused.value.headers["Retry-After"]) == ("unavailable", "2")


async def test_a_silent_store_holds_up_one_request_and_not_each() -> None:
    """It takes the connection and never answers."""
    server = await asyncio.start_server(lambda reader, writer: asyncio.sleep(30), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    limits = rates(Limits(per_key=1000, burst=0, url=SecretStr(f"redis://127.0.0.1:{port}")))
    started = asyncio.get_running_loop().time()

    assert await passed(limits, person(), "key", 50) == 50

    assert asyncio.get_running_loop().time() - started < 10  # not 50 times a second
    server.close()


async def test_searching_is_a_read_though_it_is_a_post(nobody_listens: SecretStr, tmp_path: Path) -> None:
    settings = Limits(url=nobody_listens)
    parts = app_around(
        FakeIndex(), FakeEmbedder(), directory=FakeDirectory(known=[api_key("tw_reader")]), rates=settings
    )
    assert (await search(parts)).status_code == 200

    async with upload_world(tmp_path, rates=settings) as world:
        answered = await world.client.put(
            "/v1/documents/1", json={"text": "t", "knowledge_base": "shop"}, headers={"X-API-Key": EDITOR}
        )
    assert answered.status_code == 503
    assert world.log.events == []


@pytest.mark.slow
async def test_two_replicas_share_one_count_and_go_on_alone_when_the_store_dies(tmp_path: Path) -> None:
    """Against a real Valkey: together the limit, then each by itself for reads, then together again."""
    clock = [0.0]
    with running_valkey(tmp_path) as server:
        settings = Limits(per_key=10, burst=0, url=SecretStr(server.url.replace("redis://", "valkey://")))
        replicas = [RateLimits(settings, declare(CollectorRegistry()), clock=lambda: clock[0]) for _ in range(2)]
        through = [await passed(replicas[number % 2], person(), "key", 1) for number in range(24)]
        assert sum(through) == 10
        assert through[:10] == [1] * 10

        server.kill()
        assert [await passed(replica, person("bob"), "key", 30) for replica in replicas] == [10, 10]
        with pytest.raises(Problem, match="no change is taken"):
            await replicas[0].admit(person("bob"), "key", "bob", write=True)

        server.start()
        clock[0] += 2.0
        through = [await passed(replicas[number % 2], person("cyd"), "key", 1, write=True) for number in range(24)]
        assert sum(through) == 10


@pytest.mark.slow
async def test_many_at_once_are_not_too_many_for_the_store(tmp_path: Path) -> None:
    """More than it has connections: the exact limit gets through, and nobody is refused as unavailable."""
    with running_valkey(tmp_path) as server:
        limits = rates(Limits(per_key=50, burst=0, url=SecretStr(server.url)))
        await limits.admit(person("zoe"), "key", "zoe", write=True)
        found = await asyncio.gather(*(passed(limits, person(), "key", 1, write=True) for _ in range(60)))

    assert sum(found) == 50
