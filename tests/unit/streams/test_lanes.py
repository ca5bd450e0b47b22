"""What goes to the bulk lane; each group of the index stage takes its own records, and passes by the others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from connectors.publish import LIVE_AT_ONCE, publish_events
from runtime.producer import Delivery, Outgoing
from schemas.lanes import LANE_HEADER, Lane
from schemas.records import DocumentChange, Event, Operation, Receipt
from streams.core.lanes import LaneRules
from streams.core.outcomes import PASSED_OVER, Done
from streams.pipeline import STAGES
from streams.ports import Inbound
from streams.steps.capture import CaptureStep
from tests.property.test_index_machine import CODEC, Ticking, inbound, make_change, make_step
from tests.support.fake_index import FakeIndex
from tests.support.unprotected import unprotected


def lane(rules: LaneRules, change: DocumentChange, *, hint: Lane = Lane.LIVE, at_ms: int = 0) -> Lane:
    return rules.captured(change, hint=hint, at_ms=at_ms)


def test_a_row_of_a_snapshot_is_bulk_and_a_streamed_change_is_live() -> None:
    change = make_change("a", 1, "text")

    assert lane(LaneRules(), replace(change, position=replace(change.position, phase=0))) is Lane.BULK
    assert lane(LaneRules(), change) is Lane.LIVE


def test_a_large_text_is_bulk_wherever_it_comes_from() -> None:
    rules = LaneRules(large_text=10)

    assert lane(rules, make_change("a", 1, "x" * 11)) is Lane.BULK
    assert lane(rules, make_change("a", 1, "x" * 10)) is Lane.LIVE
    assert rules.by_size(make_change("a", 1, "x" * 11)) is Lane.BULK
    assert rules.by_size(make_change("a", 1, None)) is Lane.LIVE


def test_what_the_publisher_calls_bulk_is_bulk() -> None:
    assert lane(LaneRules(), make_change("a", 1, "text"), hint=Lane.BULK) is Lane.BULK


def test_a_barrier_is_live_though_its_position_is_the_snapshots() -> None:
    change = make_change("source:s", 1, None, operation=Operation.BARRIER)
    change = replace(change, position=replace(change.position, phase=0))

    assert lane(LaneRules(burst=1), change, hint=Lane.BULK) is Lane.LIVE


def test_a_flood_of_one_source_is_bulk_beyond_its_allowance_and_other_sources_stay_live() -> None:
    rules = LaneRules(burst=3, per_second=2)
    changes = [make_change(f"d{i}", i, "text") for i in range(6)]
    other = replace(changes[0], origin=replace(changes[0].origin, source="other"))

    assert [lane(rules, change) for change in changes] == [Lane.LIVE] * 3 + [Lane.BULK] * 3
    assert lane(rules, other) is Lane.LIVE
    assert lane(rules, replace(other, tenant="u"), at_ms=0) is Lane.LIVE
    # Half a second refills one, and no more is saved up than the burst.
    assert [lane(rules, change, at_ms=500) for change in changes[3:5]] == [Lane.LIVE, Lane.BULK]
    assert [lane(rules, change, at_ms=120_000) for change in changes] == [Lane.LIVE] * 3 + [Lane.BULK] * 3


def test_a_hot_row_is_one_document_and_stays_live_at_no_cost() -> None:
    rules = LaneRules(burst=2, per_second=0)
    hot = [lane(rules, make_change("a", i, f"text {i}"), at_ms=i * 1_000) for i in range(100)]

    assert hot == [Lane.LIVE] * 100
    assert lane(rules, make_change("b", 1, "text"), at_ms=100_000) is Lane.LIVE
    assert lane(rules, make_change("c", 1, "text"), at_ms=100_000) is Lane.BULK
    assert lane(rules, make_change("a", 200, "text"), at_ms=159_000) is Lane.BULK


def test_a_snapshot_uses_up_no_allowance() -> None:
    rules = LaneRules(burst=1, per_second=1)
    row = make_change("a", 1, "text")
    for _ in range(5):
        lane(rules, replace(row, position=replace(row.position, phase=0)))

    assert lane(rules, row) is Lane.LIVE


@dataclass
class MemoryLog:
    """Keeps what was appended."""

    appended: list[tuple[DocumentChange, Lane]] = field(default_factory=list)

    def changes(self, changes: list[tuple[DocumentChange, Lane]]) -> None:
        self.appended += changes

    def receipts(self, receipts: list[Receipt]) -> None:
        """Not kept."""


def test_capture_takes_over_the_publishers_word() -> None:
    log = MemoryLog()
    step = CaptureStep(CODEC, log, None, Ticking(), {}, None, unprotected)  # type: ignore[arg-type]  # no row is read here
    event = CODEC.encode("events", Event("t", "kb", "a", text="text"))
    said = Inbound("events", 0, 0, 0, b"t/kb/a", event, ((LANE_HEADER, b"bulk"),))

    outcomes = step.handle_now(
        [said, replace(said, offset=1, headers=()), replace(said, headers=((LANE_HEADER, b"?"),))]
    )

    assert outcomes == [Done("captured")] * 3
    assert [chosen for _, chosen in log.appended] == [Lane.BULK, Lane.LIVE, Lane.LIVE]


@pytest.mark.parametrize("mine", list(Lane))
def test_each_lane_takes_its_own_records_and_passes_the_others_by_unread(mine: Lane) -> None:
    index = FakeIndex()
    step = replace(make_step(index), lane=mine)
    batch = [inbound(make_change(f"d{i}", i, "text")) for i in range(4)]
    batch[0] = replace(batch[0], headers=(Lane.BULK.header,))
    batch[1] = replace(batch[1], headers=(Lane.LIVE.header,))
    other = [0] if mine is Lane.LIVE else [1, 2, 3]
    batch = [replace(record, value=b"not ours to read") if i in other else record for i, record in enumerate(batch)]

    outcomes = step.handle_now(batch)

    assert [i for i, outcome in enumerate(outcomes) if outcome is PASSED_OVER] == other
    assert {m.document for m in index.stored.values()} == {f"t/kb/d{i}" for i in range(4) if i not in other}


def test_every_record_of_documents_is_taken_by_exactly_one_group() -> None:
    readers = [stage for stage in STAGES if "documents" in stage.reads]

    assert sorted(stage.lane or "" for stage in readers) == sorted(Lane)
    assert {stage.group for stage in readers} == {"thalweg-index", "thalweg-index-bulk"}


class MemoryProducer:
    """Takes what is sent."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    def send(self, records: list[Outgoing]) -> list[Delivery]:
        self.sent += records
        return [Delivery(record.topic, 0, at, 0) for at, record in enumerate(records)]


@pytest.mark.parametrize(("count", "expected"), [(LIVE_AT_ONCE, set()), (LIVE_AT_ONCE + 1, {Lane.BULK.header})])
def test_a_long_file_is_published_as_bulk(count: int, expected: set[tuple[str, bytes]]) -> None:
    producer = MemoryProducer()
    events = [Event("t", "kb", str(at), text="text") for at in range(count)]

    told = [item for batch in publish_events(producer, CODEC, events) for item in batch]  # type: ignore[arg-type]

    assert len(told) == count
    assert {header for record in producer.sent for header in record.headers} == expected
