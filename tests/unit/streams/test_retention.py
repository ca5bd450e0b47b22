"""What is kept no longer goes as an ordinary deletion: behind the version it ends, before any change not yet seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.index.manifest import Manifest, live, newest
from schemas.records import DocumentChange, Origin, Position
from streams.core.outcomes import Done
from streams.ports import TemporaryFailure
from streams.steps.index import IndexStep
from streams.steps.retention import DAY_MS, deletion, ended, sweep
from tests.property.test_index_machine import MemoryOutbox, inbound, make_change, make_step
from tests.support.fake_index import FakeIndex

NOW_MS = 1_000 * DAY_MS
DAYS = {"kb": 30}


def aged(document: str, days: float, text: str = "words of it.", *, stream: str = "cdc/s") -> DocumentChange:
    """A change that its source committed so many days ago."""
    at_ms = NOW_MS - int(days * DAY_MS)
    return replace(make_change(document, 7, text), position=Position(stream, 1, at_ms, 1, at_ms))


@dataclass
class FakeLog:
    """RetentionLog on an index step: what is appended is indexed at once. arrives: what others append meanwhile."""

    step: IndexStep
    behind: bool = False
    appended: list[DocumentChange] = field(default_factory=list)
    asked_back: list[tuple[list[str], Mapping[int, int]]] = field(default_factory=list)

    def settled(self) -> Mapping[int, int]:
        """As RetentionLog."""
        if self.behind:
            raise TemporaryFailure("thalweg-index is behind")
        return {0: len(self.appended)}

    def append(self, deletions: Sequence[DocumentChange]) -> None:
        """As RetentionLog."""
        self.appended += deletions
        self.step.handle_now([inbound(change) for change in deletions])

    def put_back(self, deletions: Sequence[DocumentChange], since: Mapping[int, int]) -> int:
        """As RetentionLog."""
        self.asked_back.append(([change.document_id for change in deletions], since))
        return 0


def world(*changes: DocumentChange) -> tuple[FakeIndex, FakeLog]:
    index = FakeIndex()
    step = make_step(index)
    for number, change in enumerate(changes):
        assert step.handle_now([inbound(change, number)]) == [Done("indexed")]
    return index, FakeLog(step)


def visible(index: FakeIndex) -> set[str]:
    """Ids of the documents that readers see."""
    held = [manifest for manifest in index.stored.values() if manifest.id not in index.superseded]
    return {key.rpartition("/")[2] for key, manifest in newest(held).items() if live(manifest, None)}


def test_what_is_over_is_deleted_and_the_rest_stays() -> None:
    elsewhere = replace(aged("c", 90), knowledge_base="other")
    index, log = world(aged("a", 31), aged("b", 29), elsewhere)

    counts = sweep("t", DAYS, index=index, log=log, now_ms=NOW_MS)

    assert counts == {"kb": 1}
    assert visible(index) == {"b", "c"}
    assert log.asked_back == [(["a"], {0: 0})]


def test_a_plan_changes_nothing() -> None:
    index, log = world(aged("a", 31))

    assert sweep("t", DAYS, index=index, log=None, now_ms=NOW_MS) == {"kb": 1}

    assert (visible(index), log.appended) == ({"a"}, [])


def test_a_second_sweep_finds_nothing_and_two_at_once_say_the_same() -> None:
    index, log = world(aged("a", 31))
    twin = FakeIndex(stored=dict(index.stored), chunks=dict(index.chunks))
    beside = FakeLog(make_step(twin))

    sweep("t", DAYS, index=index, log=log, now_ms=NOW_MS)
    sweep("t", DAYS, index=twin, log=beside, now_ms=NOW_MS + 5)

    assert beside.appended == log.appended
    assert sweep("t", DAYS, index=index, log=log, now_ms=NOW_MS) == {"kb": 0}
    log.step.handle_now([inbound(change) for change in beside.appended])
    assert visible(index) == set()


def test_a_change_that_the_sweeper_did_not_see_wins_in_either_order() -> None:
    for late_first in (True, False):
        index, log = world(aged("a", 31))
        (over,) = [deletion(manifest) for manifest in index.stored.values()]
        late = aged("a", 0.001, "new words.")
        for change in (late, over) if late_first else (over, late):
            log.step.handle_now([inbound(change)])
        assert visible(index) == {"a"}


def test_a_document_sent_again_is_kept_from_then_on() -> None:
    index, log = world(aged("a", 31))
    sweep("t", DAYS, index=index, log=log, now_ms=NOW_MS)

    log.step.handle_now([inbound(aged("a", 1, stream="events/0"))])

    assert visible(index) == {"a"}
    assert sweep("t", DAYS, index=index, log=log, now_ms=NOW_MS) == {"kb": 0}


def test_while_the_index_is_behind_nothing_is_deleted() -> None:
    index, log = world(aged("a", 31))
    log.behind = True

    with pytest.raises(TemporaryFailure):
        sweep("t", DAYS, index=index, log=log, now_ms=NOW_MS)

    assert visible(index) == {"a"}


def test_many_documents_are_gone_through_in_parts() -> None:
    index, log = world(*[aged(f"d{number}", 31 if number % 2 else 1) for number in range(250)])
    through: list[int] = []

    counts = sweep("t", DAYS, index=index, log=log, now_ms=NOW_MS, looked=through.append)

    assert counts == {"kb": 125}
    assert through == [100, 200, 250]
    assert len(visible(index)) == 125


def test_a_deletion_says_nothing_of_freshness() -> None:
    index, log = world(aged("a", 31))
    sweep("t", DAYS, index=index, log=log, now_ms=NOW_MS)

    outbox = log.step.outbox
    assert isinstance(outbox, MemoryOutbox)
    assert [receipt.source_ms for receipt in outbox.receipts][-1] == 0


positions = st.builds(
    lambda stream, major, at_ms: Position(stream, 1, major, 1, at_ms),
    st.sampled_from(["cdc/s", "events/0", "events/11", "uploads/0", "uploads/zz", "zzz/0"]),
    st.integers(0, 50),
    st.integers(0, 50),
)


@given(positions, positions)
def test_a_deletion_beats_its_version_and_nothing_that_was_said_later(victim: Position, other: Position) -> None:
    manifest = Manifest("t/kb/a", victim, Origin("cdc", "s", "a", "t", 0, 1))
    over = deletion(manifest).position

    assert over.newer_than(victim)
    assert not victim.newer_than(over)
    if other.at_ms > victim.at_ms:
        assert other.newer_than(over)
    assert deletion(manifest) == deletion(manifest)


def test_a_day_more_is_not_over_yet() -> None:
    manifest = Manifest("t/kb/a", aged("a", 30).position, Origin("cdc", "s", "a", "t", 0, 1))

    assert not ended(manifest, 30, NOW_MS)
    assert ended(manifest, 30, NOW_MS + 1)
