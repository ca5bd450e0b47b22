"""A generation fed beside the live one: exact at rest, and it pays for no version that the live one never indexed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import HealthCheck, given, settings

from schemas.records import DocumentChange, Operation
from streams.core.outcomes import Done
from streams.steps.index import IndexStep
from tests.property.test_index_machine import (
    WORDS,
    CountingEmbedder,
    histories,
    inbound,
    make_change,
    make_step,
    model,
)
from tests.support.fake_index import FakeIndex
from tests.support.oracle import differences, scan_fake


def batches(changes: Sequence[DocumentChange], rng: random.Random) -> list[list[DocumentChange]]:
    """In order, parted anywhere."""
    size = rng.randint(1, 6)
    return [list(changes[at : at + size]) for at in range(0, len(changes), size)]


def hand_in(step: IndexStep, batch: Sequence[DocumentChange]) -> None:
    assert all(isinstance(outcome, Done) for outcome in step.handle_now([inbound(change) for change in batch]))


def replay(changes: Sequence[DocumentChange], live: FakeIndex) -> tuple[FakeIndex, CountingEmbedder]:
    """A generation made from the whole log beside a live one, one change at a time: every version stands alone."""
    side, embedder = FakeIndex(), CountingEmbedder()
    step = replace(make_step(side, embedder), leading=live)
    for change in changes:
        hand_in(step, [change])
    return side, embedder


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_what_is_replayed_beside_a_live_generation_is_exact_and_embeds_only_what_that_one_embedded(
    drawn: tuple[list[DocumentChange], int],
) -> None:
    changes, seed = drawn
    rng, live, paid = random.Random(seed), FakeIndex(), CountingEmbedder()
    for batch in batches(changes, rng):
        hand_in(make_step(live, paid), batch)

    side, embedder = replay(changes, live)

    assert differences(scan_fake(side), model(changes)) == []
    assert set(embedder.texts) <= set(paid.texts)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_a_generation_fed_while_the_live_one_is_written_is_exact_whichever_is_ahead(
    drawn: tuple[list[DocumentChange], int],
) -> None:
    """Both read one log; each takes its next batch whenever it does, and the side worker some of its own twice."""
    changes, seed = drawn
    rng, live, side = random.Random(seed), FakeIndex(), FakeIndex()
    steps = [make_step(live), replace(make_step(side), leading=live)]
    waiting = [batches(changes, rng), batches(changes, rng)]
    while any(waiting):
        which = rng.choice([at for at in (0, 1) if waiting[at]])
        batch = waiting[which].pop(0)
        hand_in(steps[which], batch)
        if rng.random() < 0.2:
            hand_in(steps[which], batch)

    assert differences(scan_fake(live), model(changes)) == []
    assert differences(scan_fake(side), model(changes)) == []


def test_versions_that_one_batch_or_a_faster_lane_made_obsolete_are_not_paid_for_in_a_replay() -> None:
    live, paid = FakeIndex(), CountingEmbedder()
    hot = [make_change("a", lsn, f"{WORDS[lsn]} {lsn}") for lsn in range(1, 5)]
    overtaken, edit = make_change("b", 5, WORDS[0]), make_change("b", 6, WORDS[5])
    ended = (
        make_change("c", 7, "ended before it was seen"),
        make_change("source:s", 8, None, operation=Operation.BARRIER),
    )
    last = make_change("a", 9, "the last of it")
    hand_in(make_step(live, paid), hot)
    hand_in(make_step(live, paid), [edit])
    hand_in(make_step(live, paid), [overtaken])
    hand_in(make_step(live, paid), ended)
    hand_in(make_step(live, paid), [last])

    side, embedder = replay([*hot, overtaken, edit, *ended, last], live)

    assert embedder.texts == ["the last of it"]
    assert differences(scan_fake(side), {"t/kb/a": "the last of it"}) == []


def test_a_version_that_the_live_generation_has_not_read_yet_is_indexed() -> None:
    """A side worker that is ahead, or a live generation that never got a document, holds nothing back."""
    change = make_change("a", 3, WORDS[0])
    live = FakeIndex()
    hand_in(make_step(live), [make_change("a", 2, WORDS[1])])

    side, _ = replay([change], live)

    assert differences(scan_fake(side), {"t/kb/a": WORDS[0]}) == []
