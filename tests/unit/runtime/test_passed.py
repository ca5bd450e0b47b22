"""Positions that no receipt was read of: what the groups' offsets say, and when they say nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.passed import CAPTURE_GROUP, FIRST_GROUPS, LAST_GROUPS, LOG, Passed
from runtime.progress import Accepted, Progress
from runtime.topics import BrokerUnavailable, GroupLag
from streams.pipeline import STAGES, index_stages

OLD = Accepted("uploads", 0, 7)


@dataclass
class Broker:
    """Ends of partitions, what groups have committed, and offsets that hold no record."""

    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    committed: dict[tuple[str, str, int], int] = field(default_factory=dict)
    markers: set[tuple[str, int, int]] = field(default_factory=set)
    asked: int = 0
    away: bool = False

    def offsets(self, names: Iterable[str], *, earliest: bool = False) -> dict[tuple[str, int], int]:
        self.asked += 1
        if self.away:
            raise BrokerUnavailable("away")
        wanted = set(names)
        return {place: 0 if earliest else end for place, end in self.ends.items() if place[0] in wanted}

    def lag(self, group: str, names: Iterable[str]) -> list[GroupLag]:
        return [
            GroupLag(topic, partition, self.committed.get((group, topic, partition)), 0, end)
            for (topic, partition), end in self.offsets(names).items()
        ]

    def count_data(self, lag: GroupLag) -> int:
        offsets = range(lag.committed or 0, lag.end)
        return sum((lag.topic, lag.partition, offset) not in self.markers for offset in offsets)


def broker(*, parsed: int = 10, logged: int = 20, indexed: int = 20, bulk: int = 20) -> Broker:
    return Broker(
        ends={("uploads", 0): 12, (LOG, 0): logged, (LOG, 1): 0},
        committed={
            ("thalweg-parse", "uploads", 0): parsed,
            ("thalweg-index", LOG, 0): indexed,
            ("thalweg-index-bulk", LOG, 0): bulk,
        },
    )


def looked(made: Broker, position: Accepted = OLD) -> bool:
    progress = Progress()
    Passed(made, progress, lambda: None).look([position])
    return progress.ended(position)


def test_the_groups_are_those_of_the_pipeline() -> None:
    readers = {topic: stage.group for stage in STAGES for topic in stage.reads if topic != LOG}
    captured = [stage.group for stage in STAGES if stage.row_changes]

    assert {topic: FIRST_GROUPS.get(topic, CAPTURE_GROUP) for topic in readers} == readers
    assert captured == [CAPTURE_GROUP]
    assert tuple(stage.group for stage in index_stages()) == LAST_GROUPS
    assert all(stage.reads == (LOG,) for stage in index_stages())


@pytest.mark.parametrize(
    ("made", "ended"),
    [
        (broker(), True),
        (broker(parsed=8), True),
        (broker(parsed=7), False),  # the next record to parse is the one that is asked for
        (broker(indexed=19), False),
        (broker(bulk=19), False),
        (broker(logged=0, indexed=0, bulk=0), True),  # nothing came of it
        (Broker(ends={("uploads", 0): 12, (LOG, 0): 20}), False),  # nobody has committed anything
        (Broker(), False),  # there is no such topic
    ],
)
def test_a_position_has_ended_once_all_groups_are_beyond_what_came_of_it(made: Broker, ended: bool) -> None:
    assert looked(made) is ended


def test_markers_at_the_end_are_no_work() -> None:
    made = broker(indexed=19)
    made.markers.add((LOG, 0, 19))

    assert looked(made)


def test_changes_that_come_later_are_not_waited_for() -> None:
    made, progress = broker(indexed=15), Progress()
    passed = Passed(made, progress, lambda: None)
    assert not passed.look([OLD])
    made.ends[LOG, 0] = 1_000
    made.committed["thalweg-index", LOG, 0] = 20

    assert passed.look([OLD])
    assert progress.ended(OLD)
    assert progress.ended(Accepted("uploads", 0, 9))
    assert not progress.ended(Accepted("uploads", 0, 10))


def test_rows_and_events_are_capture_s() -> None:
    made = broker()
    made.ends["thalweg.shop.public.page", 2] = 100
    made.committed[CAPTURE_GROUP, "thalweg.shop.public.page", 2] = 51

    assert looked(made, Accepted("thalweg.shop.public.page", 2, 50))
    assert not looked(made, Accepted("thalweg.shop.public.page", 2, 51))


@given(
    st.lists(st.tuples(st.sampled_from(["accept", "parse", "index", "bulk", "look"]), st.integers(0, 3)), max_size=60)
)
def test_nothing_is_ever_said_to_have_ended_that_has_not(steps: list[tuple[str, int]]) -> None:
    """A pipeline in steps: an input is parsed into a record of either lane, which is handled in order by its group."""
    made = Broker(ends={("uploads", 0): 0, (LOG, 0): 0})
    inputs, log, handled, progress = 0, list[tuple[int, str]](), set[int](), Progress()
    passed = Passed(made, progress, lambda: None)

    def at(group: str, topic: str) -> int:
        return made.committed.get((group, topic, 0), 0)

    for step, number in steps:
        match step:
            case "accept":
                inputs += 1
                made.ends["uploads", 0] = inputs
            case "parse" if at("thalweg-parse", "uploads") < inputs:
                log.append((at("thalweg-parse", "uploads"), "bulk" if number else "index"))
                made.ends[LOG, 0] = len(log)
                made.committed["thalweg-parse", "uploads", 0] = at("thalweg-parse", "uploads") + 1
            case "index" | "bulk":
                group = "thalweg-index" if step == "index" else "thalweg-index-bulk"
                if at(group, LOG) < len(log):
                    accepted, lane = log[at(group, LOG)]
                    handled |= {accepted} if lane == step else set()
                    made.committed[group, LOG, 0] = at(group, LOG) + 1
            case "look":
                passed.look([Accepted("uploads", 0, number)])
        assert {n for n in range(inputs + 5) if progress.ended(Accepted("uploads", 0, n))} <= handled


def test_what_somebody_waits_for_is_looked_for_until_it_is_known() -> None:
    made, progress, came = broker(indexed=15), Progress(), threading.Event()
    passed = Passed(made, progress, came.set, between_s=0.01, patience_s=0.0)
    passed.start()
    try:
        made.away = True
        passed.want([OLD])
        made.away = False
        made.committed["thalweg-index", LOG, 0] = 20
        while not came.wait(0.05):
            passed.want([OLD])
        assert progress.ended(OLD)
    finally:
        passed.close()
