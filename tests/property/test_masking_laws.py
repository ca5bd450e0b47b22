"""Laws of masking, for any text: nothing found is left, twice is once, and what stands elsewhere does not matter."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from runtime.privacy.detection import find
from runtime.privacy.masking import Masked, Masker
from runtime.privacy.policy import KINDS, Kind

MASKER = Masker("0123456789abcdef0123456789abcdef", "acme")

known = st.sampled_from(
    [
        "john@example.com",
        "JOHN@example.com",
        "ann.lee@mail.example.org",
        "+49 30 1234567",
        "030 1234567",
        "030/7654321",
        "06 12 34 56 78",
        "4111 1111 1111 1111",
        "4111111111111111",
        "378282246310005",
        "DE89 3704 0044 0532 0130 00",
        "DE89370400440532013000",
        "219-09-9999",
        "86095742719",
        "44051401359",
        "12345678Z",
        "RSSMRA85T10A562S",
    ]
)
joint = st.sampled_from(
    ["", " ", "  ", ".", "-", "@", "/", "(", ")", "+", "_", "0", "1", "x", "é", "谢", "\n", ", ", ".de"]
)
pieces = st.one_of(known, joint, st.text("0123456789 +-./()@ab.", max_size=12))
hostile = st.lists(pieces, max_size=14).map("".join)
prose = st.lists(st.one_of(known, st.sampled_from(["call", "of", "the mill", "on 12.03.2024", "7"])), max_size=8)
anything = st.one_of(hostile, prose.map(" ".join), st.text(max_size=80))
kinds = st.lists(st.sampled_from(KINDS), unique=True)
regions = st.sampled_from(["DE", "US", "FR", ""])
apart = st.sampled_from(["\n", "\n\n", ", ", "; ", ": ", " | ", "\t"])


def masked(text: str, chosen: Sequence[Kind] = KINDS, region: str = "DE") -> Masked:
    return MASKER.masked(text, chosen, region)


@settings(max_examples=600, deadline=None)
@given(anything, kinds, regions)
@example("a@b.de@foo.de", ["email"], "DE")
@example("12 34 56 78 030 1234567", list(KINDS), "DE")
@example("4111 1111 1111 1111+49 30 1234567", list(KINDS), "DE")
@example("john@example.com0.+49 30 1234567", ["email", "phone"], "DE")
@example("john@example.com0.44051401359", list(KINDS), "DE")
@example("DE89 3704 0044 02660 130 044 0266 013:D", list(KINDS), "DE")
@example("DE89 30404 704 0532 0 0791078789, AB 12 34 56 :", list(KINDS), "DE")
def test_masked_twice_is_masked_once(text: str, chosen: list[Kind], region: str) -> None:
    once = masked(text, chosen, region).text

    assert find(once, chosen, region) == []
    assert masked(once, chosen, region).text == once


@settings(max_examples=400, deadline=None)
@given(anything, kinds, regions)
@example("john@example.com_john@example.com", ["email"], "DE")
def test_matches_are_in_order_and_apart_and_what_is_between_them_stays(
    text: str, chosen: list[Kind], region: str
) -> None:
    """So the masked text is the old one with tokens, and nothing else changed."""
    matches = find(text, chosen, region)
    result = masked(text, chosen, region)

    at, rest = 0, result.text
    for match in matches:
        assert at <= match.start < match.end <= len(text)
        kept = text[at : match.start]
        assert rest.startswith(kept)
        token = MASKER.token(match.kind, match.value)
        assert rest.startswith(token, len(kept))
        rest = rest[len(kept) + len(token) :]
        at = match.end
    assert rest == text[at:]


@settings(max_examples=400, deadline=None)
@given(anything, apart, anything, regions)
def test_what_stands_elsewhere_does_not_matter(before: str, between: str, after: str, region: str) -> None:
    """An edit beyond a line break or a comma changes no token, and is itself masked alike wherever it stands."""
    assert (
        masked(before + between + after, region=region).text
        == masked(before, region=region).text + between + masked(after, region=region).text
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(known, min_size=1, max_size=6), apart)
def test_nothing_that_was_found_is_left(values: list[str], between: str) -> None:
    text = between.join(values)
    result = masked(text).text

    for value in values:
        assert value not in result
    assert len(re.findall(r"_[a-p]{20}", result)) == len(values)


@settings(max_examples=300, deadline=None)
@given(anything, st.data())
def test_places_keep_their_order_and_what_stays_keeps_its_characters(text: str, data: st.DataObject) -> None:
    """So blocks of a parsed file stay blocks of the same words."""
    result = masked(text)
    matches = find(text, KINDS, "DE")
    moved = [result.moved(offset) for offset in range(len(text) + 1)]

    assert moved == sorted(moved)
    assert moved[0] == 0 or (matches and matches[0].start == 0)
    assert moved[-1] == len(result.text)
    for offset in range(len(text)):
        if not any(match.start <= offset < match.end for match in matches):
            assert result.text[moved[offset]] == text[offset]


@settings(max_examples=100, deadline=None)
@given(known, regions)
def test_one_value_has_one_token_in_a_tenant_and_another_one_in_the_next(value: str, region: str) -> None:
    other = Masker("0123456789abcdef0123456789abcdef", "globex")
    first, again = masked(value, region=region), masked(f"so: {value}!", region=region)

    assert again.text == f"so: {first.text}!"
    if first.moves:
        assert other.masked(value, KINDS, region).text != first.text
