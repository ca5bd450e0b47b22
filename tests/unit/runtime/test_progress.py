"""What receipts teach: which positions have ended, how fresh the index is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.progress import Accepted, Progress, Runs
from schemas.records import Receipt, ReceiptStage


@given(st.lists(st.integers(0, 60)))
def test_runs_hold_exactly_what_was_put_in(numbers: list[int]) -> None:
    runs = Runs()
    for number in numbers:
        runs.add(number)

    assert [number for number in range(62) if number in runs] == sorted(set(numbers))
    assert runs.highest == max(numbers, default=None)


@given(st.lists(st.tuples(st.booleans(), st.integers(-1, 60))))
def test_runs_hold_all_below_what_was_passed(steps: list[tuple[bool, int]]) -> None:
    runs, model = Runs(), set[int]()
    for below, number in steps:
        if below:
            runs.add_below(number)
            model |= set(range(number))
        elif number >= 0:
            runs.add(number)
            model.add(number)

    assert [number for number in range(62) if number in runs] == sorted(model)
    assert runs.highest == max(model, default=None)
    assert all(last + 1 < first for last, first in pairwise_of(runs)), "no two runs touch"


def pairwise_of(runs: Runs) -> list[tuple[int, int]]:
    return list(zip(runs._lasts, runs._firsts[1:], strict=False))


@pytest.mark.parametrize("passed", [0, 10])
def test_runs_stay_small_whatever_comes_and_never_hold_what_was_not_put_in(passed: int) -> None:
    runs = Runs()
    runs.add_below(passed)
    for number in range(20, 50_000, 2):
        runs.add(number)

    assert len(runs._firsts) == len(runs._lasts) <= 10_000
    assert 49_998 in runs
    assert passed == 0 or passed - 1 in runs, "what was passed stays known"
    assert not any(number in runs for number in range(21, 50_000, 2))
    runs.add_below(50_000)
    assert (len(runs._firsts), 21 in runs) == (1, True)


@pytest.mark.parametrize("text", ["", "uploads", "uploads/1", "uploads/x@1", "uploads/1@-1", "a b/1@1", "u/1@1\n"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="position"):
        Accepted.parse(text)


def test_a_position_survives_being_written_down() -> None:
    assert str(Accepted.parse("pg.shop.public.page/3@17")) == "pg.shop.public.page/3@17"


def receipt(
    stage: ReceiptStage, offset: int = 1, *, tenant: str = "acme", took_ms: int = 100, at: int = 10_000
) -> Receipt:
    return Receipt(tenant, "kb", "d", stage, f"uploads/0@{offset}", "v", "s", source_ms=at - took_ms, receipt_ms=at)


@pytest.mark.parametrize("stage", list(ReceiptStage))
def test_only_a_terminal_receipt_ends_a_position(stage: ReceiptStage) -> None:
    progress = Progress()

    progress.take(receipt(stage))

    assert progress.ended(Accepted("uploads", 0, 1)) is stage.terminal
    assert progress.ended(Accepted("uploads", 1, 1)) is False
    assert (progress.newest("acme") is not None) is stage.terminal


def test_freshness_is_of_one_tenants_latest_successes() -> None:
    progress = Progress()
    for number in range(100):
        progress.take(receipt(ReceiptStage.INDEXED, number, took_ms=(number + 1) * 10))
    progress.take(receipt(ReceiptStage.FAILED, 100, took_ms=9999))
    progress.take(receipt(ReceiptStage.INDEXED, 101, tenant="globex", took_ms=8888))
    progress.take(receipt(ReceiptStage.INDEXED, 102, took_ms=7777, at=8_000))

    assert progress.freshness("acme", 9_000) == (0.51, 0.96, 100)
    assert progress.freshness("nobody", 0) == (None, None, 0)


FAILED = replace(receipt(ReceiptStage.FAILED, 5), reason="encrypted")
POSITION = Accepted("uploads", 0, 5)


def test_a_failure_is_told_to_its_own_tenant_until_a_redrive_succeeds() -> None:
    progress = Progress()
    progress.take(FAILED)

    assert progress.ended(POSITION)
    assert progress.failed("acme", POSITION) == "encrypted"
    assert progress.failed("globex", POSITION) is None
    progress.take(replace(receipt(ReceiptStage.INDEXED, 5), document_id="another"))
    assert progress.failed("acme", POSITION) == "encrypted", "a row's other key is another document"
    progress.take(receipt(ReceiptStage.INDEXED, 5))
    assert progress.failed("acme", POSITION) is None


def test_failures_stay_few() -> None:
    progress = Progress()
    for offset in range(10_010):
        progress.take(replace(FAILED, accepted=f"uploads/0@{offset}"))

    assert progress.failed("acme", Accepted("uploads", 0, 9)) is None
    assert progress.failed("acme", Accepted("uploads", 0, 10_009)) == "encrypted"


def test_what_was_passed_has_ended_and_what_lies_beyond_has_not() -> None:
    progress = Progress()
    progress.passed("uploads", 0, 5)

    assert progress.ended(Accepted("uploads", 0, 4))
    assert not progress.ended(POSITION)
    assert not progress.ended(Accepted("uploads", 1, 0))
