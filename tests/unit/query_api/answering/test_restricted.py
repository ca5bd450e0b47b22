"""A restricted hit is sent to no model that is not ours, and the answer says so."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from query_api.answering.answers import Answer, at_once
from query_api.answering.restricted import KeepsRestricted
from query_api.retrieval.ports import Criteria
from query_api.retrieval.rights import Rights
from query_api.retrieval.search import Retrieval
from query_api.retrieval.visibility import Hit
from tests.unit.query_api.fake_index import LIVE, FakeEmbedder, FakeIndex, candidate, manifest
from tests.unit.query_api.fakes import app_around
from tests.unit.query_api.hits import FOOD, LEAVE, check
from tests.unit.query_api.retrieval.test_reranking import FakeReranker

CLOSED = replace(LEAVE, metadata={"sensitivity": "restricted"})


class RecordingModel:
    """An Answerer that keeps what it was sent."""

    def __init__(self) -> None:
        self.sent: list[Hit] = []

    def identity(self, question: str) -> str:
        return "recording"

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        self.sent += hits
        return Answer("written", (), "model")

    async def stream(self, question: str, hits: Sequence[Hit]) -> AsyncGenerator[str | Answer, None]:
        async for piece in at_once(await self.answer(question, hits)):
            yield piece


async def whole(model: KeepsRestricted, hits: Sequence[Hit], *, streamed: bool) -> Answer:
    if not streamed:
        return await model.answer("How many weeks is parental leave?", hits)
    pieces = [piece async for piece in model.stream("How many weeks is parental leave?", hits)]
    last = pieces.pop()
    assert isinstance(last, Answer)
    assert last.text == "".join(map(str, pieces))
    return last


@pytest.mark.parametrize("streamed", [False, True])
async def test_with_a_restricted_hit_the_answer_is_quoted_here(streamed: bool) -> None:
    model = RecordingModel()

    answer = await whole(KeepsRestricted(model), [FOOD, CLOSED], streamed=streamed)

    check(answer, [FOOD, CLOSED])
    assert (answer.model, answer.degraded) == ("extractive", ("answer",))
    assert model.sent == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_without_one_the_model_writes_it(streamed: bool) -> None:
    model = RecordingModel()
    open_hit = replace(LEAVE, metadata={"sensitivity": "internal"})

    answer = await whole(KeepsRestricted(model), [FOOD, open_hit], streamed=streamed)

    assert (answer.model, answer.degraded) == ("model", ())
    assert model.sent == [FOOD, open_hit]


def held(label: str) -> FakeIndex:
    documents = [f"acme/handbook/d{n}" for n in range(4)]
    listed = [replace(manifest(name, name), metadata={"sensitivity": "public"}) for name in documents]
    listed[-1] = replace(listed[-1], metadata={"sensitivity": label})
    return FakeIndex([candidate(name, name) for name in documents], listed)


@pytest.mark.parametrize(
    ("label", "trusted", "asked"), [("restricted", False, 0), ("restricted", True, 1), ("internal", False, 1)]
)
async def test_hits_are_ordered_by_a_foreign_model_only_if_none_is_restricted(
    label: str, trusted: bool, asked: int
) -> None:
    reranker = FakeReranker()
    retrieval = Retrieval(held(label), FakeEmbedder(), reranker, rerank_trusted=trusted)
    criteria = Criteria(Rights("acme", {"handbook": True}, None))

    found = await retrieval.search(LIVE, criteria, query="q", mode="hybrid", limit=2)

    assert len(reranker.asked) == asked
    assert found.degraded == (() if asked else ("rerank",))
    assert len(found.hits) == 2


async def test_the_response_says_that_the_model_was_not_asked() -> None:
    answers: dict[str, Any] = {}
    for label in ("public", "restricted"):
        client = app_around(held(label), FakeEmbedder(), answerer=KeepsRestricted(RecordingModel())).client
        answers[label] = (await client.post("/v1/query", json={"query": "text"})).json()

    assert (answers["public"]["model"], answers["public"]["degraded"]) == ("model", [])
    assert (answers["restricted"]["model"], answers["restricted"]["degraded"]) == ("extractive", ["answer"])
