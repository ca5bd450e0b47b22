"""The chunks around a hit: those of its own version, in the document's order, asked for in one question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from query_api.retrieval.ports import Live
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex, candidate, manifest
from tests.unit.query_api.fakes import FakeDirectory, api_key, app_around

DOC = "acme/handbook/d"


class Counting(FakeIndex):
    """Holds more texts than match; counts the questions for them."""

    def __init__(self, *more: Any, texts: dict[str, str]) -> None:
        super().__init__(*more)
        self.stored = texts
        self.asked: list[list[str]] = []

    async def texts(self, live: Live, tenant: str, chunk_ids: Sequence[str]) -> dict[str, str]:
        self.asked.append(list(chunk_ids))
        return {name: self.stored[name] for name in chunk_ids if name in self.stored}


def document(*matching: str, names: str = "abcdefg") -> Counting:
    held = [candidate(DOC, name, text=f"text {name}") for name in matching]
    stored = {name: f"text {name}" for name in [*names, "old"]}
    return Counting(held, [manifest(DOC, *names, major=2), manifest(DOC, "old", *names)], texts=stored)


async def neighbours(index: FakeIndex, count: int, **more: Any) -> list[tuple[list[str], list[str]]]:
    body = {"query": "text", "neighbours": count, **more}
    answered = await app_around(index, FakeEmbedder()).client.post("/v1/search", json=body)
    assert answered.status_code == 200, answered.text
    return [
        tuple([chunk["chunk_id"] for chunk in hit["neighbours"][side]] for side in ("before", "after"))  # type: ignore[misc]
        for hit in answered.json()["hits"]
    ]


@pytest.mark.parametrize(
    ("chunk", "count", "before", "after"),
    [
        ("d", 1, "c", "e"),
        ("d", 2, "bc", "ef"),
        ("d", 3, "abc", "efg"),
        ("a", 2, "", "bc"),
        ("g", 2, "ef", ""),
        ("b", 3, "a", "cde"),
    ],
)
async def test_a_hit_brings_what_stands_before_and_after_it(chunk: str, count: int, before: str, after: str) -> None:
    assert await neighbours(document(chunk), count) == [(list(before), list(after))]


async def test_all_neighbours_are_asked_for_at_once_and_each_once() -> None:
    index = document("c", "d", "e")

    await neighbours(index, 2)

    assert index.asked == [["a", "b", "d", "e", "c", "f", "g"]]


async def test_who_wants_no_neighbours_gets_none_and_costs_no_question() -> None:
    index = document("d")

    answered = await app_around(index, FakeEmbedder()).client.post("/v1/search", json={"query": "text"})

    assert "neighbours" not in answered.json()["hits"][0]
    assert index.asked == []


async def test_a_neighbour_stands_where_its_manifest_says() -> None:
    index = document("b")

    answered = await app_around(index, FakeEmbedder()).client.post(
        "/v1/search", json={"query": "text", "neighbours": 1}
    )

    (after,) = answered.json()["hits"][0]["neighbours"]["after"]
    assert after == {"chunk_id": "c", "text": "text c", "start": 20, "end": 24, "heading": [], "page": None}


async def test_a_neighbour_that_was_swept_away_is_left_out() -> None:
    index = document("d")
    del index.stored["e"]

    assert await neighbours(index, 1) == [(["c"], [])]


async def test_neighbours_never_come_from_another_version() -> None:
    index = document("a")

    assert await neighbours(index, 3) == [([], ["b", "c", "d"])]
    assert "old" not in index.asked[0]


async def test_who_may_not_read_the_document_sees_no_neighbour_of_it() -> None:
    held = [candidate(DOC, "a"), candidate("acme/handbook/open", "o")]
    listed = [manifest(DOC, "a", "b", access=("group:hr",)), manifest("acme/handbook/open", "o", "p")]
    index = Counting(held, listed, texts={name: name for name in "abop"})
    client = app_around(index, FakeEmbedder(), directory=FakeDirectory(known=[api_key("tw_reader")])).client

    answered = await client.post(
        "/v1/search",
        json={"query": "text", "neighbours": 2},
        headers={"Authorization": "Bearer tw_reader"},
    )

    assert [hit["document_id"] for hit in answered.json()["hits"]] == ["open"]
    assert index.asked == [["p"]]


@pytest.mark.parametrize("count", [-1, 4])
async def test_more_than_three_are_refused(count: int) -> None:
    answered = await app_around(document("d"), FakeEmbedder()).client.post(
        "/v1/search", json={"query": "text", "neighbours": count}
    )

    assert answered.status_code == 422
    assert answered.json()["errors"][0]["field"] == "neighbours"
