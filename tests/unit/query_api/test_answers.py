"""Answers: quotes that are verbatim and rightly placed, whoever writes the answer."""

from __future__ import annotations

from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from query_api.answer_models import answerer_from, marked, passages
from query_api.answers import Answer, AnswerUnavailable, Citation, verified
from query_api.extractive import Extractive
from query_api.sentences import best_sentence, scores, sentences
from query_api.visibility import Hit
from runtime.settings import Answer as AnswerSettings
from runtime.settings import SettingsError
from tests.stand_ins.model_server import ModelServer


def hit(text: str, start: int = 0, document: str = "d", title: str | None = None) -> Hit:
    return Hit(
        document, "kb", f"c-{document}-{start}", text, title, 1.0, start, start + len(text), (), None, {}, "s", "v", {}
    )


LEAVE = hit("Our policy is generous. Parental leave lasts forty weeks for everyone. Ask the office.", 100, "leave")
FOOD = hit("The canteen opens at noon.\n\n- Soup is served daily\n- Bread costs 2.50 euro", 7, "food")


def check(answer: Answer, hits: list[Hit]) -> None:
    """Every quote stands where it says, and supports a stretch of the answer."""
    for citation in answer.citations:
        cited = hits[citation.hit]
        assert cited.text[citation.start - cited.start : citation.end - cited.start] == citation.quote
        assert 0 <= citation.answer_start <= citation.answer_end <= len(answer.text)


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


def test_marks_become_citations_and_false_marks_do_not() -> None:
    hits = [LEAVE, FOOD]
    text = "The canteen opens at noon [2]. Parental leave lasts forty weeks [1][9]."

    citations = marked(text, hits)

    check(Answer(text, citations, "m"), hits)
    assert [(citation.hit, citation.quote) for citation in citations] == [
        (1, "The canteen opens at noon."),
        (0, "Parental leave lasts forty weeks for everyone."),
    ]
    assert text[citations[1].answer_start : citations[1].answer_end] == "Parental leave lasts forty weeks"


def test_a_model_gets_no_invisible_characters_and_no_more_than_its_budget() -> None:
    found = passages([hit("a\u202eb\x00c\nd"), hit("x" * 30_000), hit("y")])

    assert found[0][1] == "abc\nd"
    assert sum(len(text) for _, text in found) == 24_000


@pytest.mark.parametrize("provider", ["cohere", "openai"])
async def test_each_provider_answers_with_citations_that_hold(provider: str) -> None:
    with ModelServer() as server:
        url = server.url if provider == "cohere" else server.openai_url
        settings = AnswerSettings(provider=provider, url=url, model="m", api_key=SecretStr("k"), timeout_s=5)
        async with httpx.AsyncClient() as http:
            answer = await answerer_from(settings, http).answer("How long is parental leave?", [LEAVE, FOOD])

    check(answer, [LEAVE, FOOD])
    assert answer.model == "m"
    assert answer.text
    assert {citation.hit for citation in answer.citations} >= {0}
    assert answer.usage["output_tokens"] > 0


@pytest.mark.parametrize("provider", ["cohere", "openai"])
async def test_one_failure_is_tried_again_and_a_lasting_one_is_told_without_the_key(provider: str) -> None:
    with ModelServer() as server:
        url = server.url if provider == "cohere" else server.openai_url
        settings = AnswerSettings(provider=provider, url=url, model="m", api_key=SecretStr("sesame"), timeout_s=5)
        async with httpx.AsyncClient() as http:
            answerer = answerer_from(settings, http)
            server.misbehave("server_error", times=1)
            assert (await answerer.answer("leave?", [LEAVE])).text
            server.misbehave("server_error", times=5)
            with pytest.raises(AnswerUnavailable) as told:
                await answerer.answer("leave?", [LEAVE])
    assert "sesame" not in str(told.value)


@pytest.mark.parametrize("provider", ["cohere", "openai"])
async def test_a_server_that_is_not_there_is_told(provider: str) -> None:
    settings = AnswerSettings(provider=provider, url="http://127.0.0.1:9", timeout_s=2)
    async with httpx.AsyncClient() as http:
        with pytest.raises(AnswerUnavailable):
            await answerer_from(settings, http).answer("leave?", [LEAVE])


def test_a_vendor_without_a_key_is_refused_at_start() -> None:
    with pytest.raises(SettingsError, match=r"answer\.api_key"):
        answerer_from(AnswerSettings(provider="cohere"), httpx.AsyncClient())


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


def test_an_identity_changes_with_what_decides_the_answer_and_tells_no_secret() -> None:
    http = httpx.AsyncClient()
    base = AnswerSettings(provider="openai", url="http://u:secret@h/v1", model="m", api_key=SecretStr("sesame"))
    changes: list[dict[str, object]] = [
        {},
        {"provider": "cohere"},
        {"model": "n"},
        {"url": "http://i/v1"},
        {"temperature": 0.9},
        {"max_tokens": 9},
    ]

    told = [answerer_from(base.model_copy(update=change), http).identity("q") for change in changes]

    assert len(set(told)) == len(changes)
    assert not any("sesame" in one or "secret" in one for one in told)
    assert answerer_from(base, http).identity("q") == told[0]
