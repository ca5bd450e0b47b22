"""What people write and see around dead letters: moments, hex dumps, rows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from runtime.times import parse_since
from streams.dlq.views import hex_dump, shortened

NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30m", NOW - 1_800_000),
        ("12h", NOW - 43_200_000),
        ("7d", NOW - 604_800_000),
        ("2026-05-04T10:00:00+00:00", int(datetime(2026, 5, 4, 10, tzinfo=UTC).timestamp() * 1000)),
    ],
)
def test_a_moment_is_read(text: str, expected: int) -> None:
    assert parse_since(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7w", "-3h"])
def test_what_is_no_moment_is_refused_and_told(text: str) -> None:
    with pytest.raises(ValueError, match="write 30m"):
        parse_since(text, NOW)


def test_a_hex_dump_shows_bytes_and_characters_and_says_what_it_leaves_out() -> None:
    assert hex_dump(b"\x00ab" + b"\xff" * 20, 18).splitlines() == [
        "00000000  00 61 62 ff ff ff ff ff ff ff ff ff ff ff ff ff  .ab.............",
        "00000010  ff ff                                            ..",
        "... 5 more bytes: --raw FILE writes them all",
    ]
    assert hex_dump(b"", 18) == "(no bytes)"


def test_long_texts_in_a_decoded_value_are_cut_and_said_to_be() -> None:
    found = shortened({"text": "a" * 2_005, "list": ["b"], "number": 3})

    assert found == {"text": "a" * 2_000 + "... (5 more characters)", "list": ["b"], "number": 3}
