"""The bench of searches: who is timed, with what, and when it says that a promise is broken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import groupby

import pytest

from deploy.demo.client import percentile
from tests.bench.search import CHUNKS, Found, Pair, _in_turns, questions


def pair(ratio: float) -> Pair:
    return Pair(1, 10, 0.01, 0.02, 0.01, 0.02, ratio)


@pytest.mark.parametrize(
    ("chunks", "ratios", "good"),
    [
        (CHUNKS, (1.5, 1.2), True),
        (CHUNKS, (1.2, 1.51), False),
        (CHUNKS - 1, (1.0, 1.0), False),
    ],
)
def test_the_promise_is_kept_only_at_every_number_of_clients_and_over_enough_chunks(
    chunks: int, ratios: tuple[float, ...], good: bool
) -> None:
    assert Found(chunks, [pair(ratio) for ratio in ratios]).good is good


@pytest.mark.parametrize("clients", [1, 2, 8])
def test_both_kinds_are_timed_equally_often_never_together_and_no_question_comes_twice(clients: int) -> None:
    order: list[tuple[str, str]] = []
    under_way: list[str] = []
    beside: set[frozenset[str]] = set()
    most = 0

    def timed(kind: str) -> Callable[[str], Awaitable[None]]:
        async def one(question: str) -> None:
            nonlocal most
            order.append((kind, question))
            under_way.append(kind)
            most = max(most, len(under_way))
            beside.add(frozenset(under_way))
            await asyncio.sleep(0)
            under_way.remove(kind)

        return one

    asked = questions(64 * clients, "seed")
    took = asyncio.run(_in_turns(timed("search"), timed("bare"), asked, clients))

    assert [len(seconds) for seconds in took] == [32 * clients, 32 * clients]
    assert {question for _, question in order} == set(asked)
    assert beside == {frozenset({"search"}), frozenset({"bare"})}
    assert most == clients
    turns = [(kind, len(list(calls))) for kind, calls in groupby(kind for kind, _ in order)]
    expected = [("search", 10), ("bare", 20), ("search", 20), ("bare", 12), ("search", 2)]
    assert turns == [(kind, calls * clients) for kind, calls in expected]


def test_a_quantile_is_a_value_that_was_measured() -> None:
    took = [float(number) for number in range(1, 101)]

    assert (percentile(took, 0.5), percentile(took, 0.95), percentile([3.0], 0.95)) == (50.0, 95.0, 3.0)
