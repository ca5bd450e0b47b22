"""What receipts teach: which positions have ended, how fresh the index is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.progress import Accepted, Progress, Runs
from schemas.records import Receipt, ReceiptStage


@given(st.lists(st.integers(0, 60)))
def test_runs_hold_exactly_what_was_put_in(numbers: list[int]) -> None:
    runs = Runs()
    for number in numbers:
        runs.add(number)

    assert [number for number in range(62) if number in runs] == sorted(set(numbers))
    assert runs.highest == max(numbers, default=None)


def test_runs_stay_small_whatever_comes() -> None:
    runs = Runs()
    for number in range(0, 50_000, 2):
        runs.add(number)

    assert len(runs._firsts) == len(runs._lasts) <= 10_000
    assert 49_998 in runs
    assert 49_997 not in runs


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
