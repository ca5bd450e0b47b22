"""Fair turns: laws of the pure part, a hundredfold load against a clock moved by hand, and the waiting around it."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.asking.fair_queue import FairQueue
from query_api.asking.turns import Full, Turns
from runtime.web.problems import Problem
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex
from tests.unit.query_api.fakes import FakeDirectory, api_key, app_around

SEARCH_S = 0.02


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["come", "leave", "give up"])), max_size=200))
def test_places_are_never_overbooked_nor_idle_while_somebody_waits(steps: list[tuple[str, str]]) -> None:
    """And each who came is served, refused or gone: nobody is forgotten, each tenant in its order."""
    turns: Turns[int] = Turns(3, most_waiting=4)
    numbers, holding, waiting = count(), Counter[str](), {name: list[int]() for name in "abc"}
    for tenant, step in steps:
        number = next(numbers)
        if step == "come":
            try:
                if turns.come(tenant, number):
                    holding[tenant] += 1
                else:
                    waiting[tenant].append(number)
            except Full:
                assert len(waiting[tenant]) == 4
        elif step == "leave" and holding[tenant]:
            holding[tenant] -= 1
            served = turns.leave(tenant)
            if served is not None:
                (owner,) = [name for name, queue in waiting.items() if queue[:1] == [served]]
                fewest = min(holding[name] for name, queue in waiting.items() if queue)
                assert holding[owner] == fewest
                waiting[owner].pop(0)
                holding[owner] += 1
        elif step == "give up" and waiting[tenant]:
            assert turns.give_up(tenant, waiting[tenant].pop())
        assert turns.under_way == holding.total() <= 3
        assert turns.waiting == sum(map(len, waiting.values()))
        assert turns.under_way == 3 or turns.waiting == 0


def test_among_equals_the_one_served_longest_ago_is_next() -> None:
    turns: Turns[str] = Turns(1, most_waiting=10)
    turns.come("x", "x1")
    for waiter in ("a1", "a2", "a3", "b1", "c1", "b2"):
        assert not turns.come(waiter[0], waiter)

    served, holder = [], "x"
    while (following := turns.leave(holder)) is not None:
        served.append(following)
        holder = following[0]

    assert served == ["a1", "b1", "c1", "a2", "b2", "a3"]


def p95_of_quiet(places: int, loud_per_s: float, *, seconds: float = 60.0, fair: bool = True) -> float:
    """p95 of a tenant's searches (10 a second, in bursts of two) beside one with loud_per_s, by a simulated clock.

    Each search takes 20 ms of a place. fair False: one queue for all, to see what it would be.
    """
    turns: Turns[tuple[str, float]] = Turns(places, most_waiting=1000)
    events: list[tuple[float, int, str, str]] = []
    order, took = count(), list[float]()
    for number in range(int(10 * seconds)):
        heapq.heappush(events, (0.2 * (number // 2), next(order), "come", "quiet"))
    for number in range(int(loud_per_s * seconds)):
        heapq.heappush(events, (number / loud_per_s, next(order), "come", "loud"))
    came: dict[int, float] = {}

    def begin(waiter: tuple[str, float], now: float) -> None:
        came[number := next(order)] = waiter[1]
        heapq.heappush(events, (now + SEARCH_S, number, "leave", waiter[0]))

    def queue_of(tenant: str) -> str:
        return tenant if fair else "all"

    while events:
        now, number, what, tenant = heapq.heappop(events)
        if what == "come":
            try:
                if turns.come(queue_of(tenant), (tenant, now)):
                    begin((tenant, now), now)
            except Full:
                if tenant == "quiet":
                    took.append(60.0)
            continue
        if tenant == "quiet":
            took.append(now - came[number])
        if (following := turns.leave(queue_of(tenant))) is not None:
            begin(following, now)
    took.sort()
    assert len(took) == int(10 * seconds)
    return took[int(len(took) * 0.95)]


@pytest.mark.parametrize("places", [4, 8, 16])
def test_one_tenant_at_a_hundred_times_leaves_the_others_p95_within_twice(places: int) -> None:
    alone, beside = p95_of_quiet(places, 0.001), p95_of_quiet(places, 1000.0)

    assert beside <= 2 * alone
    assert p95_of_quiet(places, 1000.0, fair=False) > 10 * alone  # what one queue for all would do


async def test_a_tenant_alone_has_all_places() -> None:
    queue, inside = FairQueue(4, most_waiting=10, longest_wait_s=5), asyncio.Semaphore(0)
    go = asyncio.Event()

    async def search() -> None:
        async with queue.place("a"):
            inside.release()
            await go.wait()

    tasks = [asyncio.create_task(search()) for _ in range(4)]
    for _ in range(4):
        await inside.acquire()
    go.set()
    await asyncio.gather(*tasks)


async def test_too_many_waiting_and_too_long_a_wait_are_429_for_this_tenant_only() -> None:
    queue = FairQueue(1, most_waiting=1, longest_wait_s=0.05)
    async with queue.place("loud"):
        waits = asyncio.create_task(enter(queue, "loud"))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as full:
            await enter(queue, "loud")
        with pytest.raises(Problem) as late:
            await waits
        with pytest.raises(Problem, match="its turn"):
            await enter(queue, "quiet")  # it may wait, though the other's queue was full

    assert (full.value.status, late.value.status) == (429, 429)
    assert full.value.headers["Retry-After"] == "1"
    await enter(queue, "quiet")


async def enter(queue: FairQueue, tenant: str) -> None:
    async with queue.place(tenant):
        pass


async def test_a_caller_that_hangs_up_at_any_moment_takes_no_place_along() -> None:
    """While it waits, and at the very moment in which it is given its place."""
    queue = FairQueue(1, most_waiting=10, longest_wait_s=5)
    for late in (False, True):
        holder = queue.place("a")
        await holder.__aenter__()
        waits = asyncio.create_task(enter(queue, "b"))
        await asyncio.sleep(0)
        if late:
            await holder.__aexit__(None, None, None)
        waits.cancel()
        if not late:
            await asyncio.gather(waits, return_exceptions=True)
            await holder.__aexit__(None, None, None)
        await asyncio.gather(waits, return_exceptions=True)
        async with asyncio.timeout(1):
            await enter(queue, "c")


async def test_the_query_api_refuses_what_its_tenant_has_too_much_of() -> None:
    """Others go on, and what waits for the answering model holds no place."""
    embedder, go = FakeEmbedder(), asyncio.Event()
    index = FakeIndex()
    people = FakeDirectory(known=[api_key("tw_loud", tenant="loud"), api_key("tw_quiet", tenant="quiet")])
    parts = app_around(index, embedder, directory=people, queue=FairQueue(1, most_waiting=2, longest_wait_s=5))
    unheld = index.live

    async def held(**_):  # type: ignore[no-untyped-def]
        await go.wait()
        return await unheld()

    index.live = held  # type: ignore[method-assign]

    async def ask(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return (await parts.client.post("/v1/search", json={"query": "q"}, headers=headers)).status_code

    loud = [asyncio.create_task(ask("tw_loud")) for _ in range(6)]
    done, _ = await asyncio.wait(loud, return_when=asyncio.FIRST_COMPLETED)
    quiet = asyncio.create_task(ask("tw_quiet"))
    await asyncio.sleep(0)
    go.set()

    assert await quiet == 200
    assert sorted(await asyncio.gather(*loud)) == [200, 200, 200, 429, 429, 429]
    assert done
