"""Which generation is live: at most a second old, asked for once by all who wait, and ahead of time under load."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from query_api.ports import IndexUnavailable, Live
from query_api.weaviate_index import WeaviateIndex
from query_api.weaviate_link import WeaviateLink
from tests.unit.query_api.fake_index import LIVE


class Store:
    """Answers each look with another generation, once it is let; fails on command."""

    def __init__(self) -> None:
        self.looks = 0
        self.fails = False
        self.open = asyncio.Event()
        self.open.set()

    async def call(self, use: Callable[[Any], Awaitable[Live]]) -> Live:
        self.looks += 1
        salt = str(self.looks)
        await self.open.wait()
        if self.fails:
            raise IndexUnavailable("away")
        return replace(LIVE, generation=replace(LIVE.generation, salt=salt))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
async def index(store: Store, clock: Clock) -> WeaviateIndex:
    return WeaviateIndex(cast("WeaviateLink", store), clock=clock)


async def salt(index: WeaviateIndex) -> str:
    return (await index.live()).generation.salt


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_who_wait_share_one_look(index: WeaviateIndex, store: Store) -> None:
    store.open.clear()
    waiting = [asyncio.create_task(salt(index)) for _ in range(5)]
    await settled()
    waiting[0].cancel()
    store.open.set()

    assert await asyncio.gather(*waiting[1:]) == ["1"] * 4
    assert store.looks == 1


async def test_under_load_nobody_waits_for_the_next_look(index: WeaviateIndex, store: Store, clock: Clock) -> None:
    assert await salt(index) == "1"
    store.open.clear()
    clock.now = 0.6

    assert [await salt(index) for _ in range(3)] == ["1"] * 3
    await settled()
    assert store.looks == 2
    store.open.set()
    await settled()
    clock.now = 1.1

    assert await salt(index) == "2"


async def test_what_is_too_old_is_not_used(index: WeaviateIndex, store: Store, clock: Clock) -> None:
    assert await salt(index) == "1"
    clock.now = 1.0

    assert await salt(index) == "2"


async def test_a_slow_look_is_as_old_as_its_beginning(index: WeaviateIndex, store: Store, clock: Clock) -> None:
    store.open.clear()
    first = asyncio.create_task(salt(index))
    await settled()
    clock.now = 0.9
    store.open.set()
    assert await first == "1"
    clock.now = 1.0

    assert await salt(index) == "2"


async def test_a_look_ahead_that_fails_harms_nobody_until_the_last_is_too_old(
    index: WeaviateIndex, store: Store, clock: Clock
) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    assert await salt(index) == "1"
    store.fails = True
    clock.now = 0.6

    assert await salt(index) == "1"
    await settled()
    assert await salt(index) == "1"
    await settled()
    clock.now = 1.0
    with pytest.raises(IndexUnavailable):
        await index.live()
    store.fails = False
    assert await salt(index) == "5"
    gc.collect()
    await settled()
    assert told == []
