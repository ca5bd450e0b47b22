from __future__ import annotations

import pytest

from schemas.records import Origin
from streams.steps.index import timed_as


@pytest.mark.parametrize(
    ("kind", "source", "label"),
    [
        ("cdc", "shop", "shop"),
        ("event", "//crm/7f3a", "events"),
        ("event", "api", "events"),
        ("upload", "uploads", "uploads"),
    ],
)
def test_what_a_sender_calls_itself_is_no_label(kind: str, source: str, label: str) -> None:
    assert timed_as(Origin(kind, source, "1", "t", 0, 1)) == label
