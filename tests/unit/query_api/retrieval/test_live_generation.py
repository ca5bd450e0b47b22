"""Which generation is live: at most a second old, one question for all who wait, ahead of time under load."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from typing import Any

import pytest

from query_api.retrieval.live_generation import LiveGeneration
from query_api.retrieval.ports import IndexUnavailable, Live
from tests.unit.query_api.fake_index import LIVE


class Store:
    """Its alias moves on with each look, once it is let, unless it is told to stay; fails on command."""

    def __init__(self) -> None:
        self.looks = 0
        self.moves = True
        self.fails = False
        self.described: list[str] = []
        self.keys: dict[str, dict[str, str]] = {}
        self.open = asyncio.Event()
        self.open.set()

    async def named(self) -> str:
        self.looks += 1
        name = str(self.looks if self.moves else 1)
        await self.open.wait()
        if self.fails:
            raise IndexUnavailable("away")
        return name

    async def describe(self, collection: str) -> Live:
        self.described.append(collection)
        return Live(replace(LIVE.generation, salt=collection), dict(self.keys))


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
async def index(store: Store, clock: Clock) -> LiveGeneration:
    return LiveGeneration(store.named, store.describe, clock)


async def salt(index: LiveGeneration) -> str:
    return (await index.get()).generation.salt


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_who_wait_share_one_look(index: LiveGeneration, store: Store) -> None:
    store.open.clear()
    waiting = [asyncio.create_task(salt(index)) for _ in range(5)]
    await settled()
    waiting[0].cancel()
    store.open.set()

    assert await asyncio.gather(*waiting[1:]) == ["1"] * 4
    assert store.looks == 1


async def test_under_load_nobody_waits_for_the_next_look(index: LiveGeneration, store: Store, clock: Clock) -> None:
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


async def test_what_is_too_old_is_not_used(index: LiveGeneration, store: Store, clock: Clock) -> None:
    assert await salt(index) == "1"
    clock.now = 1.0

    assert await salt(index) == "2"


async def test_a_slow_look_is_as_old_as_its_beginning(index: LiveGeneration, store: Store, clock: Clock) -> None:
    store.open.clear()
    first = asyncio.create_task(salt(index))
    await settled()
    clock.now = 0.9
    store.open.set()
    assert await first == "1"
    clock.now = 1.0

    assert await salt(index) == "2"


async def test_a_look_ahead_that_fails_harms_nobody_until_the_last_is_too_old(
    index: LiveGeneration, store: Store, clock: Clock
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
        await index.get()
    store.fails = False
    assert await salt(index) == "5"
    gc.collect()
    await settled()
    assert told == []


async def test_while_the_alias_stays_nothing_is_described_again(
    index: LiveGeneration, store: Store, clock: Clock
) -> None:
    store.moves = False
    for clock.now in (0.0, 1.0, 2.0, 3.0):
        assert await salt(index) == "1"
    assert (store.looks, store.described) == (4, ["1"])

    store.moves = True
    clock.now = 4.0
    assert await salt(index) == "5"
    assert store.described == ["1", "5"]


async def test_who_needs_the_keys_gets_none_older_than_a_second(
    index: LiveGeneration, store: Store, clock: Clock
) -> None:
    store.moves = False
    await index.get()
    store.keys = {"year": {"number": "f_n_year"}}
    clock.now = 1.0
    assert (await index.get()).keys == {}
    assert (await index.get(keys=True)).keys == store.keys
    assert len(store.described) == 2

    clock.now = 1.9
    assert (await index.get(keys=True)).keys == store.keys
    await settled()
    assert len(store.described) == 3  # ahead of time


async def test_anew_is_after_the_call_whatever_is_under_way(index: LiveGeneration, store: Store) -> None:
    store.moves = False
    store.open.clear()
    early = asyncio.create_task(index.get(keys=True))
    await settled()
    anew = [asyncio.create_task(index.get(anew=True)) for _ in range(3)]
    await settled()
    assert store.looks == 1
    store.open.set()
    await early
    store.keys = {"year": {"number": "f_n_year"}}

    assert [live.keys for live in await asyncio.gather(*anew)] == [store.keys] * 3
    assert store.looks == 2


async def test_what_is_forgotten_is_asked_for_again(index: LiveGeneration, store: Store) -> None:
    assert await salt(index) == "1"
    index.forget()
    assert await salt(index) == "2"
