"""Filters know the keys that the caller's reach has: no other tenant's, none too late, and at no cost once known."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.retrieval.filter_keys import FilterKeys, named_keys
from query_api.retrieval.filters import FilterRefused, Known, parse
from query_api.retrieval.ports import Criteria, IndexUnavailable, Live
from query_api.retrieval.rights import Rights
from tests.unit.query_api.fake_index import LIVE, FakeEmbedder, FakeIndex
from tests.unit.query_api.fakes import app_around

MINE = Rights("acme", {"kb": True}, frozenset({"ann"}))
LIVE_ALL = Live(
    LIVE.generation,
    {
        "year": {"number": "f_n_year"},
        "team": {"text": "f_s_team"},
        "code": {"text": "f_s_code", "number": "f_n_code", "boolean": "f_b_code"},
    },
)


def index_with(*used: str) -> FakeIndex:
    return FakeIndex(now=LIVE_ALL, used=set(used))


async def refusal(index: FakeIndex, filters: dict[str, Any]) -> str:
    answered = await app_around(index, FakeEmbedder()).client.post(
        "/v1/search", json={"query": "q", "filters": filters}
    )
    assert answered.status_code == 422
    told = answered.json()
    return str((told["detail"], told["errors"]))


@pytest.mark.parametrize("value", ["x", 3, True, {"gt": "a"}, {"ne": 1}, {"in": ["a"]}])
async def test_a_key_that_only_others_have_is_refused_as_one_that_nobody_has(value: Any) -> None:
    index = index_with("f_n_year")

    foreign = await refusal(index, {"code": value})
    nobodys = await refusal(index, {"none": value})

    assert foreign.replace("code", "KEY") == nobodys.replace("none", "KEY")


async def test_a_key_that_came_a_moment_ago_can_be_filtered_on() -> None:
    index = FakeIndex(now=LIVE, used={"f_s_code"}, later=LIVE_ALL)
    client = app_around(index, FakeEmbedder()).client

    statuses = [
        (await client.post("/v1/search", json={"query": "q", "filters": filters})).status_code
        for filters in ({"or": [{"source": "s"}, {"code": "blue"}]}, {"document_id": "d", "none": 1})
    ]

    assert statuses == [200, 422]


async def test_the_type_that_a_key_has_elsewhere_is_not_told() -> None:
    told = await refusal(index_with("f_s_code"), {"code": 3})

    assert "text" in told
    assert "number" not in told
    assert "true" not in told


async def test_a_key_is_asked_for_once_and_one_that_is_not_there_each_time() -> None:
    index = index_with("f_n_year")
    keys = FilterKeys(index)

    for _ in range(3):
        found = await keys.known(LIVE_ALL, MINE, {"year", "team", "nobodys"})

    assert found == {"year": {"number": "f_n_year"}}
    assert sorted(index.sought) == ["f_n_year", "f_s_team", "f_s_team", "f_s_team"]


async def test_a_key_that_has_just_been_written_is_known_at_once() -> None:
    index = index_with()
    keys = FilterKeys(index)
    assert await keys.known(LIVE_ALL, MINE, {"team"}) == {}

    index.used.add("f_s_team")

    assert await keys.known(LIVE_ALL, MINE, {"team"}) == {"team": {"text": "f_s_team"}}


@pytest.mark.parametrize(
    "other",
    [
        Rights("globex", {"kb": True}, frozenset({"ann"})),
        Rights("acme", {"kb": True, "more": True}, frozenset({"ann"})),
        Rights("acme", {"kb": False}, frozenset({"ann"})),
        Rights("acme", {"kb": True}, frozenset({"bob"})),
        Rights("acme", {"kb": True}, None),
    ],
)
async def test_what_one_reach_has_says_nothing_about_another(other: Rights) -> None:
    index = index_with("f_n_year")
    keys = FilterKeys(index)
    await keys.known(LIVE_ALL, MINE, {"year"})
    index.used.clear()

    assert await keys.known(LIVE_ALL, MINE, {"year"})
    assert not await keys.known(LIVE_ALL, other, {"year"})


async def test_the_list_of_keys_is_asked_for_at_most_once_a_minute() -> None:
    index, now = index_with(), 0.0
    keys = FilterKeys(index, lambda: now)

    told = [await keys.hint(LIVE_ALL, MINE, None) for _ in range(3)]
    now = 61.0
    told.append(await keys.hint(LIVE_ALL, MINE, None))

    assert set(told) == {"use one of document_id, source, year"}
    assert index.hinted == 2


async def test_a_refusal_stands_also_if_the_keys_cannot_be_listed() -> None:
    class Slow(FakeIndex):
        async def keys_in_use(self, live: Live, criteria: Criteria) -> list[str]:
            raise IndexUnavailable("not in time")

    assert "GET /v1/documents" in await refusal(Slow(now=LIVE_ALL), {"none": 1})


_FILTERS = st.recursive(
    st.none() | st.integers() | st.dictionaries(st.sampled_from(["year", "team", "code", "x"]), st.integers()),
    lambda inner: (
        st.dictionaries(st.sampled_from(["and", "or"]), st.lists(inner, max_size=3), max_size=2)
        | st.dictionaries(st.sampled_from(["year", "code", "x"]), inner, max_size=2)
    ),
    max_leaves=15,
)


@given(_FILTERS)
def test_with_the_named_keys_a_filter_means_what_it_means_with_all(raw: object) -> None:
    def outcome(keys: Any) -> object:
        try:
            return parse(raw, Known(keys, lambda name: [name]))
        except FilterRefused as error:
            return (error.field, error.message)

    everything = {**LIVE_ALL.keys, "x": {"number": "f_n_x"}}

    assert outcome(everything) == outcome({key: everything[key] for key in named_keys(raw) if key in everything})


def test_a_hundred_keys_are_named_however_they_are_wrapped() -> None:
    raw = {"or": [*({} for _ in range(500)), *({f"k{n}": 1} for n in range(100))]}

    assert len(named_keys(raw)) == 100
