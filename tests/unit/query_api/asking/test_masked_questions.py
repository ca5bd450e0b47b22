"""A question that holds an address is asked with the token that stands for it in the documents."""

from __future__ import annotations

import pytest

from query_api.asking.masked_questions import AsStored, QuestionMasking
from query_api.retrieval.filters import AllOf, AnyOf, Comparison, Filter
from runtime.access import KnowledgeBase
from runtime.privacy.masking import Masker
from runtime.privacy.policy import Policy
from runtime.web.problems import Problem
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex
from tests.unit.query_api.fakes import FakeDirectory, app_around

KEY = "0123456789abcdef0123456789abcdef"
ANN = "ann.lee@example.com"
TOKEN = Masker(KEY, "acme").token("email", ANN)
PHONE = Masker(KEY, "acme").token("phone", "+49301234567")
MASKS = KnowledgeBase("acme", "people", policy=Policy(mask=("email",)))
ALSO_PHONES = KnowledgeBase("acme", "calls", policy=Policy(mask=("email", "phone"), region="DE"))
PLAIN = KnowledgeBase("acme", "handbook")


def among(*bases: KnowledgeBase) -> AsStored:
    return QuestionMasking(KEY).among("acme", bases)


def test_an_address_should_be_asked_for_by_its_token() -> None:
    assert among(MASKS).question(f"what did {ANN.upper()} write?") == f"what did {TOKEN} write?"


def test_a_question_should_stay_as_it_is_where_nothing_is_masked() -> None:
    assert QuestionMasking(None).among("acme", [PLAIN]).question(f"mail of {ANN}") == f"mail of {ANN}"


def test_a_question_over_both_kinds_of_bases_should_hold_address_and_token() -> None:
    for bases in ((PLAIN, MASKS), (MASKS, PLAIN)):
        assert among(*bases).question(f"mail of {ANN}") == f"mail of {ANN} {TOKEN}"


def test_a_question_over_bases_that_mask_differently_should_hold_what_each_of_them_has() -> None:
    asked = among(MASKS, ALSO_PHONES).question(f"{ANN} 030 1234567")

    assert asked == f"{TOKEN} 030 1234567 {PHONE}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Comparison("f_s_by", "text", "eq", ANN), Comparison("f_s_by", "text", "in", (ANN, TOKEN))),
        (Comparison("f_s_by", "text", "ne", ANN), Comparison("f_s_by", "text", "nin", (ANN, TOKEN))),
        (Comparison("f_l_by", "text[]", "in", ("x", ANN)), Comparison("f_l_by", "text[]", "in", ("x", ANN, TOKEN))),
        (Comparison("f_s_by", "text", "eq", "x"), Comparison("f_s_by", "text", "eq", "x")),
        (Comparison("f_s_by", "text", "gt", ANN), Comparison("f_s_by", "text", "gt", ANN)),
        (Comparison("f_n_year", "number", "eq", 4111111111111111.0), None),
        (Comparison("document", "text", "in", (ANN,)), None),
        (Comparison("source", "text", "eq", ANN), None),
        (Comparison("f_s_by", "text", "eq", f"{ANN} {'x' * 320}"), None),
    ],
)
def test_a_filter_should_compare_with_every_spelling(given: Filter, expected: Filter | None) -> None:
    for wrap in (AllOf, AnyOf):
        assert among(MASKS).filter(wrap((given, given))) == wrap((expected or given, expected or given))
    assert among(PLAIN).filter(given) == given


def test_no_filter_should_stay_none() -> None:
    assert among(MASKS).filter(None) is None


def test_without_the_key_a_masking_base_should_be_refused_with_the_name_of_the_setting() -> None:
    with pytest.raises(Problem, match=r"privacy\.mask_key"):
        QuestionMasking(None).among("acme", [MASKS])


async def test_neither_index_nor_model_should_see_the_address() -> None:
    index, embedder = FakeIndex(), FakeEmbedder()
    directory = FakeDirectory(held=[MASKS, PLAIN])
    client = app_around(index, embedder, directory=directory, mask_key=KEY).client
    body = {"query": f"mail of {ANN}", "knowledge_bases": ["people"], "filters": {"team": ANN}}

    assert (await client.post("/v1/search", json=body)).status_code == 200

    assert [ask.text for ask in index.asks] == [f"mail of {TOKEN}"]
    assert [text for _, text in embedder.asked] == [f"mail of {TOKEN}"]
    assert index.criteria[0].filter == Comparison("f_s_team", "text", "in", (ANN, TOKEN))
