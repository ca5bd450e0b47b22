"""Takes joined: a worker that is behind sees all changes of a document at once, a live change waits for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.lanes import LANE_HEADER
from streams.adapters import gathering
from streams.adapters.gathering import Gathering, units
from streams.core.reading import Partition, Passing

plain = Passing[Partition, Any](None, 0).to_come


@dataclass(frozen=True)
class Record:
    offset: int
    key: bytes | None = b"a"
    topic: str = "documents"
    partition: int = 0
    value: bytes | None = b"v"


@dataclass(frozen=True)
class Header:
    """What the reader looks at."""

    offset: int
    headers: Sequence[tuple[str, bytes | None]] = ()


def gathered(takes: Sequence[Sequence[Record]], end: int, *, take: int = 2, most: int = 100) -> list[list[int]]:
    """The offsets of each gathering, until the reader stops."""

    async def source() -> AsyncIterator[Sequence[Record]]:
        for found in takes:
            yield found

    def ends(places: Sequence[Partition]) -> Mapping[Partition, int]:
        return dict.fromkeys(places, end)

    async def play() -> list[list[int]]:
        made = Gathering(source(), lambda record: record, ends, take=take, most=most, to_come=plain)
        found = []
        while True:
            try:
                found.append([record.offset for record in await made.next()])
            except StopAsyncIteration:
                return found

    return asyncio.run(play())


PAIRS = [[Record(0), Record(1)], [Record(2), Record(3)], [Record(4)]]


def test_all_that_waited_is_taken_together() -> None:
    assert gathered(PAIRS, end=5) == [[0, 1, 2, 3, 4]]


def test_what_comes_after_the_first_look_waits_for_the_next_gathering() -> None:
    assert gathered(PAIRS, end=4) == [[0, 1, 2, 3], [4]]


def test_a_worker_that_is_not_far_behind_does_not_wait_for_more() -> None:
    assert gathered([[Record(0), Record(1)], [Record(2)]], end=3) == [[0, 1], [2]]


def test_a_gathering_is_bounded() -> None:
    assert gathered(PAIRS, end=5, most=4) == [[0, 1, 2, 3], [4]]
    assert gathered(PAIRS, end=5, most=0) == [[0, 1], [2, 3], [4]]
    large = [[Record(n, value=b"v" * gathering.MOST_BYTES)] for n in range(3)]
    assert gathered(large, end=3, take=1) == [[0], [1], [2]]


def test_what_the_reader_passes_over_is_not_waited_for() -> None:
    """It is told to be passed over while the gathering waits: nothing comes any more, and the rest goes on at once."""

    async def play() -> list[int]:
        passing = Passing[Partition, Header](lambda headers: not headers, every_s=60)
        passing.let_through({("documents", 0): [Header(0), Header(1)]}, now=0)

        async def source() -> AsyncIterator[Sequence[Record]]:
            yield [Record(0), Record(1)]
            passing.let_through(
                {("documents", 0): [Header(at, ((LANE_HEADER, b"bulk"),)) for at in range(2, 500)]}, now=0
            )
            await asyncio.Event().wait()

        def ends(places: Sequence[Partition]) -> Mapping[Partition, int]:
            return dict.fromkeys(places, 500)

        made = Gathering(source(), lambda record: record, ends, take=2, most=999, to_come=passing.to_come)
        return [record.offset for record in await asyncio.wait_for(made.next(), 5)]

    assert asyncio.run(play()) == [0, 1]


def test_a_broker_that_counts_what_is_no_record_is_not_waited_for_for_ever() -> None:
    async def play() -> list[int]:
        async def source() -> AsyncIterator[Sequence[Record]]:
            yield [Record(0)]
            await asyncio.Event().wait()

        def ends(places: Sequence[Partition]) -> Mapping[Partition, int]:
            return dict.fromkeys(places, 9)

        made = Gathering(source(), lambda record: record, ends, take=1, most=10, to_come=plain, patience_s=0.01)
        return [record.offset for record in await asyncio.wait_for(made.next(), 5)]

    assert asyncio.run(play()) == [0]


def test_units_hold_each_key_whole_and_in_order() -> None:
    records = [Record(0, b"a"), Record(1, b"b"), Record(2, None), Record(3, b"a"), Record(4, None), Record(5, b"c")]
    assert [[r.offset for r in unit] for unit in units(records, 2)] == [[0, 3, 1], [2, 4], [5]]
