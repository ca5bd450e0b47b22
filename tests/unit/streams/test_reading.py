"""Turns of topics, and records left out: nothing of a worker's own is lost by it, and all of it is acknowledged."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streams.core.reading import Headers, Partition, Passing, Turns

PLACES: list[Partition] = [("documents", 0), ("documents", 1)]


@dataclass(frozen=True)
class Record:
    offset: int
    headers: Headers = ()

    @property
    def mine(self) -> bool:
        return not self.headers


def other(offset: int) -> Record:
    return Record(offset, (("lane", b"bulk"),))


def passing(every_s: float = 1.0) -> Passing[Partition, Record]:
    return Passing(lambda headers: not headers, every_s)


def test_a_topic_rests_for_as_long_as_what_it_gave_is_worth() -> None:
    turns = Turns(per_second=500)

    turns.gave("load", 100, now=10.0)
    turns.gave("rows", 1, now=10.0)

    assert turns.resting(["load", "rows", "events"], now=10.1) == {"load": 10.2 - 10.1}
    assert turns.resting(["load", "rows"], now=10.2) == {}


def test_what_a_topic_gives_while_it_rests_is_added() -> None:
    turns = Turns(per_second=10)
    turns.gave("load", 10, now=0.0)
    turns.gave("load", 10, now=0.5)

    assert turns.resting(["load"], now=0.5) == {"load": 1.5}


def test_without_a_pace_no_topic_rests() -> None:
    turns = Turns(None)
    turns.gave("load", 1_000_000, now=0.0)

    assert turns.resting(["load"], now=0.0) == {}


def test_the_last_record_of_another_lane_goes_on_once_in_a_while() -> None:
    reader = passing()
    place = PLACES[0]

    assert reader.let_through({place: [other(0), other(1)]}, now=100.0) == {place: [other(1)]}
    assert reader.let_through({place: [other(2), other(3)]}, now=100.5) == {}
    assert reader.let_through({place: [other(4), Record(5), other(6)]}, now=100.9) == {place: [Record(5)]}
    assert reader.let_through({}, now=101.0) == {place: [other(6)]}, "though nothing more comes"
    assert reader.let_through({}, now=102.0) == {}, "once"


def test_what_comes_after_partitions_changed_is_never_before_what_was_passed() -> None:
    reader = passing()
    reader.let_through({}, now=100.0)
    reader.let_through({PLACES[0]: [other(500)]}, now=100.5)

    reader.forget()

    assert reader.let_through({}, now=102.0) == {}
    assert reader.let_through({PLACES[0]: [Record(300)]}, now=103.0) == {PLACES[0]: [Record(300)]}
    assert reader.to_come(PLACES[0], 300, 501) == 200


def test_how_many_may_still_come() -> None:
    reader = passing(every_s=1e9)
    place = PLACES[0]
    assert reader.to_come(place, 4, 10) == 5, "nothing is known"

    reader.let_through({place: [Record(4), other(5), Record(6), *map(other, range(7, 50))]}, now=0.0)

    assert reader.to_come(place, 4, 60) == 2 + 10, "up to the last of its own, and what was not read yet"
    assert reader.to_come(place, 6, 50) == 0, "the rest was passed over"
    assert reader.to_come(place, 55, 60) == 4, "of a partition that went on"


@given(
    st.lists(
        st.tuples(st.sampled_from(PLACES), st.lists(st.booleans(), min_size=1, max_size=8), st.floats(0, 0.7)),
        max_size=40,
    )
)
def test_nothing_of_its_own_is_left_out_and_the_rest_is_acknowledged_in_order(
    reads: list[tuple[Partition, list[bool], float]],
) -> None:
    reader, now = passing(), 100.0
    offsets = dict.fromkeys(PLACES, 0)
    came: dict[Partition, list[Record]] = {place: [] for place in PLACES}
    wanted: dict[Partition, list[Record]] = {place: [] for place in PLACES}
    for place, lanes, later in reads:
        records = [Record(offsets[place] + at) if mine else other(offsets[place] + at) for at, mine in enumerate(lanes)]
        offsets[place] += len(records)
        wanted[place] += [record for record in records if record.mine]
        now += later
        for at, found in reader.let_through({place: records}, now).items():
            came[at] += found
    for at, found in reader.let_through({}, now + 1).items():
        came[at] += found

    for place in PLACES:
        assert [record for record in came[place] if record.mine] == wanted[place]
        assert all(one.offset < next_.offset for one, next_ in pairwise(came[place]))
        assert not offsets[place] or came[place][-1].offset == offsets[place] - 1, "all are acknowledged"


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), max_size=40), st.floats(0.0, 3.0))
def test_it_knows_what_nobody_is_to_get_and_claims_no_record_of_its_own(
    log: list[tuple[int, bool, bool]], every_s: float
) -> None:
    """Of any log with holes, read in any turns: before each record that goes on lies what it says, and no more."""
    reader, place, offset, now = passing(every_s), PLACES[0], 0, 0.0
    read: list[Record] = []
    own: set[int] = set()
    gone: list[int] = []
    for step, mine, turn_ends in log:
        offset += step
        read.append(Record(offset) if mine else other(offset))
        own |= {offset} if mine else set()
        if turn_ends:
            now += 1.0
            gone += [record.offset for record in reader.let_through({place: read}, now).get(place, [])]
            read = []
    if not gone:
        return

    since = {each: reader.since(place, each) for each in gone}

    for before, each in pairwise(gone):
        assert since[each] == before + 1
    assert own.isdisjoint(range(since[gone[0]], gone[0]))
    assert reader.behind(place) == gone[-1] + 1


def test_once_reading_begins_elsewhere_nothing_is_known() -> None:
    reader = passing()
    reader.let_through({PLACES[0]: [Record(3), other(4), Record(7)]}, 0.5)
    reader.forget()

    assert reader.behind(PLACES[0]) == 0
    assert reader.since(PLACES[0], 7) == 7
    reader.let_through({PLACES[0]: [Record(9)]}, 0.6)
    assert reader.since(PLACES[0], 9) == 9
