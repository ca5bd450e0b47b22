"""Answers: quotes that are verbatim and rightly placed, whoever writes the answer."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from query_api.answering.answers import Answer, Citation, verified
from query_api.answering.extractive import Extractive
from query_api.answering.sentences import best_sentence, scores, sentences
from tests.unit.query_api.hits import FOOD, LEAVE, check, hit


def test_sentences_end_where_people_would_end_them() -> None:
    text = 'He paid 3.50 euro. "Really?" she asked. Yes!\n\nHeading\n- one item\n- two e.g. with dots'

    assert [sentence.text for sentence in sentences(text)] == [
        "He paid 3.50 euro.",
        '"Really?" she asked.',
        "Yes!",
        "Heading",
        "- one item",
        "- two e.g. with dots",
    ]


@given(st.text(alphabet="aB .!?\n-。", max_size=80))
def test_sentences_are_verbatim_in_order_and_lose_no_letter(text: str) -> None:
    found = sentences(text)

    assert all(text[item.start : item.end] == item.text and item.text.strip() == item.text for item in found)
    assert all(one.end <= other.start for one, other in pairwise(found))
    assert "".join("".join(item.text.split()) for item in found) == "".join(text.split())


def test_the_sentence_that_covers_the_question_scores_best() -> None:
    rated = scores("How long does parental leave last?", [item.text for item in sentences(LEAVE.text)])

    assert rated.index(max(rated)) == 1
    assert all(0 <= score <= 1 for score in rated)
    assert best_sentence("anything", "  \n ") is None


async def test_an_extractive_answer_quotes_the_sentence_that_answers() -> None:
    hits = [FOOD, LEAVE]

    answer = await Extractive().answer("How many weeks is parental leave?", hits)

    check(answer, hits)
    assert answer.model == "extractive"
    assert answer.text == "Parental leave lasts forty weeks for everyone."
    assert (answer.citations[0].hit, answer.citations[0].start) == (1, 124)


async def test_an_extractive_answer_repeats_no_sentence() -> None:
    hits = [LEAVE, hit(LEAVE.text, 0, "copy")]

    answer = await Extractive().answer("parental leave weeks", hits)

    assert answer.text.count("Parental leave lasts") == 1


async def test_a_question_without_common_words_still_gets_the_best_hits_words() -> None:
    answer = await Extractive().answer("zzz", [FOOD])

    check(answer, [FOOD])
    assert answer.citations


def test_a_citation_that_does_not_hold_is_dropped_at_the_seam() -> None:
    hits = [LEAVE, FOOD]
    good = Citation(1, FOOD.text[:10], 7, 17, 0, 4)
    wrong = [
        Citation(1, FOOD.text[:10], 8, 18, 0, 4),  # a character beside
        Citation(0, FOOD.text[:10], 7, 17, 0, 4),  # another hit
        Citation(2, FOOD.text[:10], 7, 17, 0, 4),  # no hit
        Citation(-1, FOOD.text[:10], 7, 17, 0, 4),
        Citation(1, "", 7, 7, 0, 4),  # nothing
        Citation(1, FOOD.text[-3:] + "x", FOOD.end - 3, FOOD.end + 1, 0, 4),  # beyond the hit
        Citation(1, FOOD.text[:10], 7, 17, 0, 99),  # beyond the answer
    ]

    assert verified(Answer("text", (*wrong, good), "m"), hits).citations == (good,)


async def test_a_stream_ends_with_the_answer_and_has_said_all_of_its_text() -> None:
    said = [part async for part in Extractive().stream("How many weeks is parental leave?", [FOOD, LEAVE])]

    assert isinstance(said[-1], Answer)
    assert "".join(part for part in said[:-1] if isinstance(part, str)) == said[-1].text
