"""The loop between Faust and a step: settled means durable downstream or parked; nothing else lets a batch go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from runtime.metrics import declare
from streams.adapters.runner import Loop
from streams.core.budget import LetterBudget
from streams.core.letters import Place
from streams.core.outcomes import Done, Outcome, Rejected, Retry
from streams.ports import Inbound, TemporaryFailure


def record(offset: int) -> Inbound:
    return Inbound("documents", 0, offset, 0, b"k", b"v")


@dataclass
class ScriptedStep:
    """Answers by offset: each time it is handed in, the next outcome of its script; the last one stays."""

    scripts: dict[int, list[Outcome]]
    seen: list[list[int]] = field(default_factory=list)
    told: list[int] = field(default_factory=list)
    name: str = "index"

    async def handle(self, batch: Sequence[Inbound]) -> list[Outcome]:
        self.seen.append([item.offset for item in batch])
        outcomes = []
        for item in batch:
            script = self.scripts.get(item.offset, [Done()])
            outcomes.append(script.pop(0) if len(script) > 1 else script[0])
        return outcomes

    async def failed(self, item: Inbound, _: Rejected) -> None:
        self.told.append(item.offset)


@dataclass
class DeadLetters:
    """Keeps what is parked; away for the first so many calls."""

    away: int = 0
    parked: list[tuple[int, str]] = field(default_factory=list)
    error: Exception = field(default_factory=lambda: TemporaryFailure("the broker is away"))

    def park(self, item: Inbound, outcome: Rejected) -> None:
        if self.away:
            self.away -= 1
            raise self.error
        self.parked.append((item.offset, outcome.reason))


class Aborted(BaseException):
    """The process ended itself."""


def make_loop(
    step: ScriptedStep,
    letters: DeadLetters,
    *,
    limit: int = 100,
    earlier: Sequence[float] = (),
    chance: float = 0.5,
) -> tuple[Loop, list[float]]:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    def abort(why: str) -> None:
        raise Aborted(why)

    now: Callable[[], float] = lambda: sum(pauses)  # noqa: E731
    loop = Loop(
        step=step,
        outbox=letters,
        metrics=declare(CollectorRegistry()),
        attempts=3,
        retry_max_s=30.0,
        budget=LetterBudget(limit, 1000, earlier),
        abort=abort,
        sleep=sleep,
        monotonic=now,
        jitter=lambda: chance,
    )
    return loop, pauses


async def test_a_batch_is_settled_when_every_record_is_done() -> None:
    """One hand-in, no wait."""
    step, letters = ScriptedStep({}), DeadLetters()
    loop, pauses = make_loop(step, letters)

    await loop.settle([record(0), record(1)])

    assert (step.seen, pauses, letters.parked) == ([[0, 1]], [], [])


async def test_only_what_is_not_settled_is_handed_in_again_and_the_wait_grows() -> None:
    """A store that is away is waited for as long as that lasts; done records are not repeated."""
    step = ScriptedStep({1: [Retry("away")] * 12 + [Done()]})
    loop, pauses = make_loop(step, DeadLetters(), chance=1.0)

    await loop.settle([record(0), record(1)])

    assert step.seen == [[0, 1]] + [[1]] * 12
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.5
    assert pauses[-1] == 30.0, "by chance the longest wait, and never longer"


async def test_a_wish_for_a_later_time_is_honoured() -> None:
    """Retry-After is the least that is waited."""
    loop, pauses = make_loop(ScriptedStep({0: [Retry("busy", after_s=7.0), Done()]}), DeadLetters())

    await loop.settle([record(0)])

    assert pauses == [7.0]


async def test_a_rejected_record_is_parked_and_its_sender_told() -> None:
    """Its neighbours are done in the same round."""
    step, letters = ScriptedStep({1: [Rejected("corrupt", "why")]}), DeadLetters()
    loop, _ = make_loop(step, letters)

    await loop.settle([record(0), record(1), record(2)])

    assert (letters.parked, step.told, step.seen) == ([(1, "corrupt")], [1], [[0, 1, 2]])


async def test_an_error_nobody_foresaw_is_parked_after_some_tries() -> None:
    """A defect that one record meets for ever does not hold its partition for ever."""
    step, letters = ScriptedStep({0: [Retry("KeyError", limited=True)]}), DeadLetters()
    loop, _ = make_loop(step, letters)

    await loop.settle([record(0)])

    assert letters.parked == [(0, "unexpected")]
    assert len(step.seen) == 3


@pytest.mark.parametrize("error", [TemporaryFailure("the broker is away"), KeyError("unforeseen")], ids=repr)
async def test_nothing_is_let_go_while_dead_letters_cannot_be_delivered(error: Exception) -> None:
    """The record is handed in again until it is parked for sure."""
    step, letters = ScriptedStep({0: [Rejected("corrupt", "why")]}), DeadLetters(away=4, error=error)
    loop, _ = make_loop(step, letters)

    await loop.settle([record(0)])

    assert letters.parked == [(0, "corrupt")]
    assert len(step.seen) == 5


async def test_too_many_dead_letters_stop_the_process() -> None:
    """A bad deploy must not drain a topic into the dead letters."""
    step = ScriptedStep({offset: [Rejected("corrupt", "why")] for offset in range(20)})
    loop, _ = make_loop(step, DeadLetters(), limit=10)

    with pytest.raises(Aborted, match="10 dead letters a minute"):
        await loop.settle([record(offset) for offset in range(20)])


async def test_what_earlier_lives_wrote_counts_and_the_loop_stands_still_until_there_is_room() -> None:
    """A restart must not give a bad deploy a fresh budget, and ending again and again would help nobody."""
    step, letters = ScriptedStep({0: [Rejected("corrupt", "why")]}), DeadLetters()
    loop, pauses = make_loop(step, letters, limit=2, earlier=[-20.0, -10.0])

    await loop.settle([record(0)])

    assert letters.parked == [(0, "corrupt")]
    assert 40.0 <= sum(pauses) < 50.0, "until the first is a minute old"
    assert loop.stands_still is None


async def test_after_standing_still_it_goes_on_as_there_is_room_and_never_ends() -> None:
    """The budget bounds what is parked: two letters in any minute."""
    step = ScriptedStep({offset: [Rejected("corrupt", "why")] for offset in range(6)})
    letters = DeadLetters()
    loop, pauses = make_loop(step, letters, limit=2, earlier=[-20.0, -10.0])

    await loop.settle([record(offset) for offset in range(6)])

    assert len(letters.parked) == 6
    assert sum(pauses) >= 160.0


async def test_a_record_that_has_its_letter_from_an_earlier_life_is_not_parked_again() -> None:
    """A worker died between the letter and the acknowledgement; the sender is told once more, which harms nobody."""
    step, letters = ScriptedStep({0: [Rejected("corrupt", "why")]}), DeadLetters()
    loop, _ = make_loop(step, letters)
    loop.parked = {(Place("documents", 0, 0), 0), (Place("documents", 0, 9), 0)}

    await loop.settle([record(0)])

    assert (letters.parked, step.told) == ([], [0])
    assert loop.parked == {(Place("documents", 0, 9), 0)}


async def test_a_letter_is_written_once_though_the_word_about_it_fails_for_a_while() -> None:
    """The broker took the letter and then went away: what is tried again is the word, not the letter."""

    @dataclass
    class Speechless(ScriptedStep):
        times: int = 3

        async def failed(self, item: Inbound, outcome: Rejected) -> None:
            if self.times:
                self.times -= 1
                raise TemporaryFailure("away")
            await super().failed(item, outcome)

    step, letters = Speechless({0: [Rejected("corrupt", "why")]}), DeadLetters()
    loop, _ = make_loop(step, letters)

    await loop.settle([record(0)])

    assert (letters.parked, step.told) == ([(0, "corrupt")], [0])


async def test_what_nobody_foresaw_while_a_letter_is_written_does_not_let_the_record_go() -> None:
    """Settled without a letter it would be lost: it is handed in again until the letter is there."""

    @dataclass
    class Surprising(DeadLetters):
        times: int = 2

        def park(self, item: Inbound, outcome: Rejected) -> None:
            if self.times:
                self.times -= 1
                raise ValueError("a defect of a library")
            super().park(item, outcome)

    step, letters = ScriptedStep({0: [Rejected("corrupt", "why")] * 3}), Surprising()
    loop, _ = make_loop(step, letters)

    await loop.settle([record(0)])

    assert (letters.parked, step.told) == ([(0, "corrupt")], [0])


async def test_tries_are_counted_for_each_record() -> None:
    """One record's defect does not use up the tries of the next."""
    step = ScriptedStep(
        {0: [Retry("KeyError", limited=True)], 1: [Retry("away")] * 4 + [Retry("x", limited=True), Done()]}
    )
    letters = DeadLetters()
    loop, _ = make_loop(step, letters)

    await loop.settle([record(0), record(1)])

    assert letters.parked == [(0, "unexpected")]


async def test_waits_are_counted_by_their_class() -> None:
    """Operators see whether to wait, to act, or to report a defect."""
    script = [Retry("away"), Retry("key", configuration=True), Retry("bug", limited=True), Done()]
    loop, _ = make_loop(ScriptedStep({0: list(script)}), DeadLetters())

    await loop.settle([record(0)])

    value = loop.metrics.registry.get_sample_value
    for name in ("later", "configuration", "defect"):
        assert value("thalweg_retries_total", {"stage": "index", "class": name}) == 1
