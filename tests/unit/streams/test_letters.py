"""Letters, marks and the way back: what headers say, what is believed of them, and what a letter's state is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.budget import LetterBudget
from streams.core.letters import (
    LETTER,
    REDRIVEN,
    Letter,
    Letters,
    Mark,
    NotRedriven,
    Place,
    State,
    counts,
    first_seen,
    letter_headers,
    mark_headers,
    own_headers,
    read_letter,
    read_mark,
    redriven_headers,
)

HERE = Place("events", 2, 17)
HEADERS = st.lists(
    st.tuples(st.sampled_from([*LETTER, *REDRIVEN, "thalweg.letter.of", "a"]), st.none() | st.binary()), max_size=30
)


def letter(rejected: Place = HERE, *, own: object = (), at_ms: int = 5, offset: int = 0) -> Letter:
    headers = letter_headers(list(own), rejected, 1_000, stage="capture", reason="undecodable", detail="why",
                             error_class="never")  # type: ignore[call-overload]  # fmt: skip
    found = read_letter(Place("dead-letters", 0, offset), at_ms, headers, 3)
    assert found is not None
    return found


@given(HEADERS)
def test_whatever_headers_a_record_has_its_letter_gives_them_back_and_its_own_reason(
    own: list[tuple[str, bytes | None]],
) -> None:
    headers = letter_headers(own, HERE, 7, stage="parse", reason="r", detail="d", error_class="never")

    found = read_letter(Place("dead-letters", 0, 1), 9, headers, 0)

    assert own_headers(headers) == own
    assert found is not None
    assert (found.stage, found.reason, found.rejected, found.rejected_ms) == ("parse", "r", HERE, 7)
    assert read_mark(9, headers) is None


@given(HEADERS)
def test_a_redriven_record_knows_its_first_place_through_any_number_of_failures(
    own: list[tuple[str, bytes | None]],
) -> None:
    first = letter(own=[(name, value) for name, value in own if name not in REDRIVEN])
    carried = redriven_headers([(name, value) for name, value in own if name not in REDRIVEN], first)
    again = letter(Place("events", 2, 40), own=carried, offset=9)
    once_more = redriven_headers(carried, again)

    assert (again.rejected, again.first) == (Place("events", 2, 40), HERE)
    assert first_seen(once_more, Place("events", 2, 90), 2_000) == (HERE, 1_000)
    assert len(once_more) == len(carried), "the block is replaced, not piled up"


def test_without_the_headers_a_record_was_first_seen_where_it_lies() -> None:
    assert first_seen([("a", b"1")], HERE, 3) == (HERE, 3)


@pytest.mark.parametrize(
    ("first", "at_ms", "why"),
    [
        ("events/2@18", "1", "a later place"),
        ("events/2@17", "1", "its own place"),
        ("events/3@1", "1", "another partition"),
        ("uploads/2@1", "1", "another topic"),
        ("events/2@1", "4", "a later time"),
        ("events/2@1", "0", "no time"),
        ("nonsense", "1", "no place"),
        ("events/2@1", "soon", "no number"),
    ],
)
def test_headers_that_would_make_a_record_newer_are_not_believed(first: str, at_ms: str, why: str) -> None:
    headers = [(REDRIVEN[0], first.encode()), (REDRIVEN[1], at_ms.encode()), (REDRIVEN[2], b"dead-letters/0@0")]

    with pytest.raises(NotRedriven):
        first_seen(headers, HERE, 3)


def test_a_part_of_the_headers_is_not_believed() -> None:
    with pytest.raises(NotRedriven):
        first_seen([(REDRIVEN[0], b"events/2@1")], HERE, 3)


def test_a_record_parked_twice_is_one_letter_and_one_mark_settles_it() -> None:
    letters = Letters()
    for at_ms, offset in ((8, 4), (5, 0)):
        letters.take(letter(at_ms=at_ms, offset=offset))
    letters.take(letter(Place("events", 2, 18), at_ms=6, offset=1))
    mark = Mark("capture", HERE, State.REDRIVEN, "mara", "events/2@40", 9)
    read = read_mark(9, mark_headers(mark))
    assert read == mark
    letters.settle(read)
    letters.settle(Mark("capture", HERE, State.DROPPED, "later", "", 12))
    letters.settle(Mark("parse", Place("events", 2, 18), State.DROPPED, "another stage's", "", 12))

    found = letters.all()

    assert [(str(one.id), one.state, one.by, one.to) for one in found] == [
        ("dead-letters/0@0", State.REDRIVEN, "mara", "events/2@40"),
        ("dead-letters/0@1", State.PARKED, None, None),
    ]
    assert counts(found) == {("capture", "undecodable"): 2}


@pytest.mark.parametrize("text", ["", "a", "a/1", "a@1", "/1@2", "a/x@2", "a/1@x", "a/1@-2"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        Place.parse(text)


def test_a_topic_with_a_slash_or_an_at_in_its_name_is_read_back() -> None:
    assert Place.parse(str(Place("a/b@c", 1, 2))) == Place("a/b@c", 1, 2)


def test_a_budget_counts_the_minute_the_hour_and_what_was_written_before() -> None:
    budget = LetterBudget(3, 5, earlier=[-3_000.0, -10.0])

    assert budget.left(0.0) == 2
    budget.take(0.0)
    budget.take(1.0)
    assert budget.left(1.0) == 0, "three in this minute"
    assert budget.left(55.0) == 1
    budget.take(55.0)
    assert budget.left(70.0) == 0, "five in this hour"
    assert budget.left(601.0) == 1, "the oldest is an hour old"
