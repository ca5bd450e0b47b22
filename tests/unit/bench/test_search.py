"""The bench of searches: who is timed, with what, and when it says that a promise is broken."""

from __future__ import annotations

import asyncio

import pytest

from tests.bench.search import CHUNKS, Found, Pair, _in_turns, quantile, questions


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
def test_both_kinds_are_timed_equally_often_in_turns_and_no_question_comes_twice(clients: int) -> None:
    order: list[tuple[str, str]] = []

    async def search(question: str) -> None:
        order.append(("search", question))
        await asyncio.sleep(0)

    async def bare(question: str) -> None:
        order.append(("bare", question))
        await asyncio.sleep(0)

    took = asyncio.run(_in_turns(search, bare, questions(64, "seed"), clients))

    assert [len(seconds) for seconds in took] == [32, 32]
    assert len({question for _, question in order}) == 64
    if clients == 1:
        assert [kind for kind, _ in order] == ["search", "bare"] * 32


def test_a_quantile_is_a_value_that_was_measured() -> None:
    took = [float(number) for number in range(1, 101)]

    assert (quantile(took, 0.5), quantile(took, 0.95), quantile([3.0], 0.95)) == (50.0, 95.0, 3.0)
