"""The bench of fairness: when it says that a promise is broken."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bench.fairness import Fairness

FAIR = Fairness(alone=0.03, beside=0.05, ratio=1.67, quiet=180, failed=0, loud={"200": 1000, "429": 8000})


def test_it_is_kept_where_the_quiet_one_hardly_waits() -> None:
    assert FAIR.good


@pytest.mark.parametrize(
    "found",
    [
        replace(FAIR, ratio=2.01),
        replace(FAIR, failed=1),
        replace(FAIR, loud={"429": 9000}),
        replace(FAIR, loud={"200": 1000}),
    ],
    ids=["waited", "failed", "the loud one had nothing", "the loud one was not loud"],
)
def test_it_is_not_kept_otherwise(found: Fairness) -> None:
    assert not found.good
