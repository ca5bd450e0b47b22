"""The circuit breaker against a clock moved by hand: when it asks, when it refuses, and who decides."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.breaker import Breaker, CircuitOpen, State


class Away(Exception):
    """The part fails; wish: for how long it wants to be left alone."""

    def __init__(self, wish: float | None = None) -> None:
        super().__init__()
        self.wish = wish


class Refused(Exception):
    """The part answers, and does not like the question."""


@dataclass
class Part:
    """A part behind a breaker; `fails` is what it raises, asked counts the calls that reached it."""

    fails: Exception | None = None
    now: float = 100.0
    asked: int = 0
    told: list[State] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.breaker = Breaker(
            "part",
            failing=(Away,),
            failures=5,
            open_s=1.0,
            longest_open_s=60.0,
            clock=lambda: self.now,
            told=lambda _, state: self.told.append(state),
            wish=lambda error: error.wish if isinstance(error, Away) else None,
        )

    async def answer(self) -> str:
        self.asked += 1
        if self.fails is not None:
            raise self.fails
        return "here"

    async def ask(self) -> str:
        """`here`, `away` (it was asked and failed) or `open` (it was not asked)."""
        try:
            return await self.breaker.call(self.answer)
        except Away:
            return "away"
        except CircuitOpen:
            return "open"


async def test_five_failures_in_a_row_spare_the_part_the_sixth_call() -> None:
    part = Part(Away())

    assert [await part.ask() for _ in range(6)] == ["away"] * 5 + ["open"]
    assert (part.asked, part.breaker.state) == (5, "open")


async def test_a_success_between_failures_starts_the_count_anew() -> None:
    part = Part(Away())
    for _ in range(4):
        await part.ask()
    part.fails = None
    await part.ask()
    part.fails = Away()

    assert [await part.ask() for _ in range(4)] == ["away"] * 4
    assert part.breaker.state == "closed"


async def test_one_probe_goes_through_when_the_time_is_up_and_its_success_closes() -> None:
    part = Part(Away())
    for _ in range(5):
        await part.ask()
    part.now += 0.99
    assert await part.ask() == "open"
    part.now += 0.01
    part.fails = None

    assert [await part.ask(), await part.ask()] == ["here", "here"]
    assert part.told == ["closed", "open", "half-open", "closed"]


async def test_each_failed_probe_doubles_the_wait_up_to_the_longest() -> None:
    part = Part(Away())
    for _ in range(5):
        await part.ask()
    waits = []
    for _ in range(8):
        waits.append(part.breaker.retry_after_s)
        part.now += part.breaker.retry_after_s
        assert await part.ask() == "away"

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


async def test_while_a_probe_is_under_way_nobody_else_asks() -> None:
    part, back = Part(Away()), asyncio.Event()
    for _ in range(5):
        await part.ask()
    part.now += 1

    async def slow() -> str:
        await back.wait()
        return "here"

    probe = asyncio.create_task(part.breaker.call(slow))
    await asyncio.sleep(0)

    assert await part.ask() == "open"
    back.set()
    assert await probe == "here"
    assert part.breaker.state == "closed"


async def test_a_probe_whose_caller_hung_up_leaves_the_place_to_the_next() -> None:
    part = Part(Away())
    for _ in range(5):
        await part.ask()
    part.now += 1
    probe = asyncio.create_task(part.breaker.call(asyncio.Event().wait))
    await asyncio.sleep(0)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    part.fails = None

    assert await part.ask() == "here"


async def test_what_a_call_found_that_began_before_the_circuit_opened_says_nothing() -> None:
    """A success of a minute ago must not close it, nor a failure of then open it again."""
    part, back = Part(Away()), asyncio.Event()

    async def slow() -> str:
        await back.wait()
        return "here"

    early = asyncio.create_task(part.breaker.call(slow))
    await asyncio.sleep(0)
    for _ in range(5):
        await part.ask()
    back.set()
    await early

    assert part.breaker.state == "open"


async def test_an_answer_that_is_a_refusal_opens_nothing() -> None:
    part = Part(Refused())
    for _ in range(10):
        with pytest.raises(Refused):
            await part.breaker.call(part.answer)

    assert (part.asked, part.breaker.state) == (10, "closed")


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=60))
def test_an_away_part_is_asked_at_most_five_times_and_once_for_each_wait(steps: list[tuple[bool, float]]) -> None:
    """Whatever the calls and pauses: refused calls never reach the part, and it is found again once it is back."""

    async def run() -> None:
        part = Part()
        row = 0
        for well, pause in steps:
            part.now += pause
            part.fails = None if well else Away()
            opened = part.breaker.state == "open"
            before = part.asked
            outcome = await part.ask()
            assert (part.asked == before) == (outcome == "open") == opened
            row = row + 1 if outcome == "away" else 0 if outcome == "here" else row
            assert (row >= 5) <= (part.breaker.state != "closed")
        part.now += 60
        part.fails = None
        assert await part.ask() == "here"

    asyncio.run(run())


@pytest.mark.parametrize(("wish", "waits_s"), [(None, 1.0), (0.2, 1.0), (17.0, 17.0), (3600.0, 60.0)])
async def test_a_part_that_wants_to_be_left_alone_for_longer_is(wish: float | None, waits_s: float) -> None:
    part = Part(Away(wish))
    for _ in range(5):
        await part.ask()

    assert part.breaker.retry_after_s == pytest.approx(waits_s)
    part.now += waits_s - 0.01
    assert await part.ask() == "open"
    part.now += 0.02
    part.fails = Away()
    assert await part.ask() == "away"
    assert part.breaker.retry_after_s == pytest.approx(2.0), "a wish counts once"
