"""What a knowledge base declares filterable is all that a search of it can filter on, whichever way it is asked."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.retrieval.filter_keys import metadata_keys, permitted_keys
from query_api.retrieval.filters import Comparison
from runtime.access import KnowledgeBase
from tests.unit.query_api.fake_index import LIVE, FakeEmbedder, FakeIndex
from tests.unit.query_api.fakes import FakeDirectory, Parts, app_around

UNKNOWN = "is not a key this index can filter on"


def base(name: str, *keys: str) -> KnowledgeBase:
    """Declares these keys."""
    return KnowledgeBase("acme", name, filterable=keys)


def searching(*bases: KnowledgeBase, index: FakeIndex | None = None) -> Parts:
    """An app over these knowledge bases, whose documents have `year` and `team`."""
    return app_around(index or FakeIndex(), FakeEmbedder(), directory=FakeDirectory(held=list(bases)))


async def searched(parts: Parts, filters: dict[str, Any], **more: Any) -> httpx.Response:
    return await parts.client.post("/v1/search", json={"query": "q", "filters": filters, **more})


def refused(answered: httpx.Response) -> str:
    """What is told, under whatever name the key has."""
    assert (answered.status_code, answered.json()["type"]) == (422, "/problems/validation-failed")
    (wrong,) = answered.json()["errors"]
    assert UNKNOWN in wrong["message"]
    return str(answered.json()["detail"])


@pytest.mark.parametrize(
    "test", ["a", 3, True, {"ne": "a"}, {"nin": ["a"]}, {"in": ["a"]}, {"gt": "a"}, {"lte": 2}, {"eq": "a"}]
)
@pytest.mark.parametrize("place", ["{}", "or", "and"])
async def test_a_key_that_is_not_declared_is_refused_as_one_that_nobody_has(test: Any, place: str) -> None:
    index = FakeIndex()
    parts = searching(base("handbook", "year"), index=index)

    def within(filters: dict[str, Any]) -> dict[str, Any]:
        return filters if place == "{}" else {place: [{"year": 1}, filters]}

    hidden = await searched(parts, within({"team": test}))
    nobodys = await searched(parts, within({"none": test}))

    assert refused(hidden).replace("team", "KEY") == refused(nobodys).replace("none", "KEY")
    assert "f_s_team" not in index.sought
    assert (await searched(parts, {"year": 1})).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/search", {"query": "q", "filters": {"team": "a"}}, "filters.team"),
        ("/v1/query", {"query": "q", "filters": {"or": [{"year": 1}, {"team": {"ne": "a"}}]}}, "filters.or.1.team"),
        (
            "/v1/vector_stores/handbook/search",
            {"query": "q", "filters": {"type": "ne", "key": "team", "value": "a"}},
            "filters.team",
        ),
    ],
)
async def test_each_way_of_asking_refuses_it(path: str, body: dict[str, Any], field: str) -> None:
    answered = await searching(base("handbook", "year")).client.post(path, json=body)

    refused(answered)
    (wrong,) = answered.json()["errors"]
    assert wrong["field"] == field
    assert "use one of document_id, source, year" in wrong["fix"]


async def test_in_a_batch_such_a_question_fails_alone() -> None:
    questions = [{"query": "q", "filters": {"year": 1}}, {"query": "q", "filters": {"team": "a"}}]
    parts = searching(base("handbook", "year"))

    results = (await parts.client.post("/v1/query/batch", json={"queries": questions})).json()["results"]

    assert [result["status"] for result in results] == [200, 422]
    assert UNKNOWN in results[1]["problem"]["errors"][0]["message"]


async def test_only_what_is_declared_and_used_is_offered_instead() -> None:
    """The documents of this index use `year`."""
    told = refused(await searched(searching(base("handbook", "team")), {"none": 1}))

    assert "use one of document_id, source (" in told
    assert "year" not in told
    assert "team" not in told


async def test_a_knowledge_base_that_declares_nothing_at_all_is_searched_without_filters_on_metadata() -> None:
    parts = searching(base("handbook"))

    refused(await searched(parts, {"year": 1}))
    assert (await searched(parts, {"source": "s", "document_id": "d"})).status_code == 200


async def test_over_several_a_key_counts_where_all_that_declare_any_declare_it() -> None:
    parts = searching(base("handbook", "year", "team"), base("crm", "year"), KnowledgeBase("acme", "open"))

    async def status(key: str, *bases: str) -> int:
        return (
            await searched(parts, {key: {"ne": "a" if key == "team" else 1}}, knowledge_bases=list(bases))
        ).status_code

    assert await status("year", "handbook", "crm", "open") == 200
    assert await status("team", "handbook", "open") == 200
    assert await status("team", "open") == 200
    assert await status("team", "handbook", "crm") == 422
    assert await status("team", "crm", "open") == 422
    refused(await searched(parts, {"team": "a"}))


async def test_what_another_tenant_declares_changes_nothing() -> None:
    parts = searching(KnowledgeBase("acme", "handbook"), KnowledgeBase("globex", "handbook", filterable=("code",)))

    assert (await searched(parts, {"year": 1})).status_code == 200


async def test_a_declaration_holds_from_the_moment_it_is_known() -> None:
    parts = searching(KnowledgeBase("acme", "handbook"))
    assert (await searched(parts, {"team": "a"})).status_code == 200

    parts.directory.held = [base("handbook", "year")]
    refused(await searched(parts, {"team": "a"}))

    parts.directory.held = [base("handbook", "year", "team")]
    assert (await searched(parts, {"team": "a"})).status_code == 200


async def test_a_declared_key_is_asked_for_as_ever() -> None:
    index = FakeIndex()

    assert (await searched(searching(base("handbook", "year"), index=index), {"year": 3})).status_code == 200

    assert index.criteria[0].filter == Comparison("f_n_year", "number", "eq", 3.0)


async def test_a_key_that_may_not_be_used_is_not_worth_a_look_at_the_store() -> None:
    index = FakeIndex(now=LIVE, later=LIVE.__class__(LIVE.generation, {"anew": {"text": "f_s_anew"}}))

    refused(await searched(searching(base("handbook", "year"), index=index), {"none": 1}))

    assert index.now is LIVE
    assert index.sought == []


_KEYS = st.sampled_from(["a", "b", "c", "d"])
_BASES = st.lists(
    st.builds(
        lambda keys: KnowledgeBase("acme", "kb", filterable=keys), st.none() | st.lists(_KEYS, max_size=4).map(tuple)
    ),
    max_size=4,
)


@given(_BASES, st.sets(_KEYS))
def test_no_key_is_used_that_one_of_the_knowledge_bases_keeps_to_itself(
    bases: list[KnowledgeBase], asked: set[str]
) -> None:
    used = metadata_keys(dict.fromkeys(asked, 1), permitted_keys(bases))

    assert used == {key for key in asked if all(base.filterable is None or key in base.filterable for base in bases)}
