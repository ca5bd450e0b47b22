"""What is found in a text and what is left alone, kind by kind."""

from __future__ import annotations

import time

import pytest

from runtime.privacy.detection import find
from runtime.privacy.policy import KINDS, Kind

FOUND: list[tuple[Kind, str, str, str]] = [
    ("email", "write to Ann.Lee+x@Example.co.uk.", "Ann.Lee+x@Example.co.uk", "ann.lee+x@example.co.uk"),
    ("email", "_john@example.com_", "john@example.com", "john@example.com"),
    ("email", "请联系john@example.com谢谢", "john@example.com", "john@example.com"),
    ("email", "<müller@größe.de>", "müller@größe.de", "müller@grösse.de"),
    ("email", "mailto:o'brien@example.org?x", "o'brien@example.org", "o'brien@example.org"),
    ("phone", "call +49 30 1234567 now", "+49 30 1234567", "+49301234567"),
    ("phone", "call 030/1234567, please", "030/1234567", "+49301234567"),
    ("phone", "0049-30-1234567", "0049-30-1234567", "+49301234567"),
    ("phone", "(030) 1234567", "(030) 1234567", "+49301234567"),
    ("card", "card 4111 1111 1111 1111 123", "4111 1111 1111 1111", "4111111111111111"),
    ("card", "378282246310005", "378282246310005", "378282246310005"),
    ("card", "5555-5555-5555-4444.", "5555-5555-5555-4444", "5555555555554444"),
    ("iban", "DE89 3704 0044 0532 0130 00 BANK", "DE89 3704 0044 0532 0130 00", "DE89370400440532013000"),
    ("iban", "gb82west12345698765432", "gb82west12345698765432", "GB82WEST12345698765432"),
    ("national_id", "SSN 219-09-9999", "219-09-9999", "219099999"),
    ("national_id", "AB 12 34 56 C", "AB 12 34 56 C", "AB123456C"),
    ("national_id", "IdNr 86 095 742 719", "86 095 742 719", "86095742719"),
    ("national_id", "2 55 08 14 168 025 38", "2 55 08 14 168 025 38", "255081416802538"),
    ("national_id", "12345678Z", "12345678Z", "12345678Z"),
    ("national_id", "X1234567L", "X1234567L", "X1234567L"),
    ("national_id", "RSSMRA85T10A562S", "RSSMRA85T10A562S", "RSSMRA85T10A562S"),
    ("national_id", "756.9217.0769.85", "756.9217.0769.85", "7569217076985"),
    ("national_id", "44051401359", "44051401359", "44051401359"),
]

NEAR_MISSES: list[tuple[Kind, str]] = [
    ("email", "a@b, @decorator, user@localhost, 5 @ 3.50"),
    ("phone", "on 12.03.2024 at 10:30, host 192.168.100.200, version 1.20.300.4000"),
    ("phone", "order 1234567890, chapter 3.1.4.1.5.9.2.6"),
    ("card", "4111 1111 1111 1112"),
    ("card", "1700000000000"),
    ("card", "0000000000000000"),
    ("card", "a4111111111111111"),
    ("iban", "DE89 3704 0044 0532 0130 01"),
    ("iban", "DE8937040044053201300"),
    ("national_id", "219099999"),
    ("national_id", "000-12-3456, 666-12-3456, 219-00-9999, 219-09-0000"),
    ("national_id", "86095742718"),
    ("national_id", "12345678A"),
    ("national_id", "RSSMRA85T10A562T"),
    ("national_id", "756.9217.0769.86"),
    ("national_id", "44051401358"),
    ("national_id", "44131401350"),
]


@pytest.mark.parametrize(("kind", "text", "part", "value"), FOUND, ids=[part for _, _, part, _ in FOUND])
def test_it_should_be_found_whole_and_in_one_spelling(kind: Kind, text: str, part: str, value: str) -> None:
    (match,) = find(text, [kind], "DE")

    assert (text[match.start : match.end], match.kind, match.value) == (part, kind, value)


@pytest.mark.parametrize(("kind", "text"), NEAR_MISSES)
def test_what_only_looks_like_it_should_be_left_alone(kind: Kind, text: str) -> None:
    assert find(text, [kind], "DE") == []


def test_two_numbers_with_one_space_between_them_should_both_be_found() -> None:
    text = "030 1234567 030 7654321"

    assert [match.value for match in find(text, ["phone"], "DE")] == ["+49301234567", "+49307654321"]


def test_only_numbers_with_a_country_code_should_be_found_where_no_region_is_set() -> None:
    assert [match.value for match in find("030 1234567 or +1 212 555 2368", ["phone"])] == ["+12125552368"]


def test_what_overlaps_should_go_as_one() -> None:
    (match,) = find("4111111111111111@example.com", KINDS, "DE")

    assert (match.kind, match.start, match.end) == ("email", 0, 28)


def test_only_the_kinds_asked_for_should_be_found() -> None:
    text = "john@example.com, +49 30 1234567, 4111111111111111"

    assert [match.kind for match in find(text, ["card"])] == ["card"]


def seconds(unit: str, characters: int) -> float:
    text = (unit * characters)[:characters]
    started = time.process_time()
    find(text, KINDS, "DE")
    return time.process_time() - started


@pytest.mark.parametrize(
    "unit",
    [
        "a", "@", "a@", "a.", "a@a.", "1", "1 ", "12 ", "1-", "(", "(1", "+1", " ", "4111 ", "4111-", "DE89 ", "DE89",
        "de12a", "X1234567", "0301234567 ", "AB12", "756.", "ABCDEF", "030 1234567 ", "+49", " 030 1",
    ],
)  # fmt: skip
def test_a_hostile_text_should_take_time_in_proportion_to_its_length(unit: str) -> None:
    """No pattern looks at one place again and again: ten times the text, some ten times the time."""
    assert seconds(unit, 30_000) < 25 * seconds(unit, 3_000) + 0.3


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["a@", "4111 ", "12 ", "0301234567 "])
def test_a_hostile_megabyte_should_take_seconds_not_minutes(unit: str) -> None:
    assert seconds(unit, 1_000_000) < 60
