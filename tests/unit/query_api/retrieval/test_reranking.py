"""A model's order for hits: taken whole or not at all, and never waited for longer than it is worth."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from query_api.retrieval.ports import Criteria
from query_api.retrieval.rerank_models import reranker_from
from query_api.retrieval.reranking import Reranker, RerankUnavailable, checked
from query_api.retrieval.rights import Rights
from query_api.retrieval.search import Found, Retrieval
from runtime.settings import Rerank as RerankSettings
from runtime.settings import SettingsError
from tests.stand_ins.model_control import Kind
from tests.stand_ins.model_server import ModelServer
from tests.unit.query_api.fake_index import LIVE, FakeEmbedder, FakeIndex, candidate, manifest
from tests.unit.query_api.fakes import app_around

TEXTS = ["the canteen opens at noon", "parental leave lasts forty weeks", "leave a note"]
PROVIDERS = ["cohere", "openai"]


@pytest.fixture(scope="module")
def started() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def server(started: ModelServer) -> ModelServer:
    started.reset()
    return started


def settings(server: ModelServer, provider: Any, **more: Any) -> RerankSettings:
    url = server.url if provider == "cohere" else server.openai_url
    return RerankSettings(provider=provider, url=url, model="m", api_key=SecretStr("sesame"), **more)


@pytest.fixture(params=PROVIDERS)
async def model(request: pytest.FixtureRequest, server: ModelServer) -> AsyncIterator[Reranker]:
    made = reranker_from(settings(server, request.param, timeout_s=1))
    assert made is not None
    yield made
    await made.close()


async def test_each_provider_scores_the_texts_in_their_order(model: Reranker, server: ModelServer) -> None:
    assert await model.scores("parental leave", TEXTS) == [0.0, 1.0, 0.5]
    (call,) = server.calls("rerank")
    assert call.authorization == "Bearer sesame"


async def test_scores_that_come_in_another_order_are_put_right(model: Reranker, server: ModelServer) -> None:
    server.misbehave("permuted")

    assert await model.scores("parental leave", TEXTS) == [0.0, 1.0, 0.5]


@pytest.mark.parametrize(
    "kind",
    [
        *("rate_limit", "server_error", "overloaded", "unauthorised", "unknown_model", "bad_request"),
        *("drop", "garbage", "strange", "nan", "short", "misnumbered"),
    ],
)
async def test_a_reply_that_cannot_be_used_is_told_without_key_or_question(
    model: Reranker, server: ModelServer, kind: Kind
) -> None:
    server.misbehave(kind, times=-1)

    with pytest.raises(RerankUnavailable) as told:
        await model.scores("parental canary", TEXTS)

    assert "sesame" not in str(told.value)
    assert "canary" not in str(told.value)


@pytest.mark.parametrize("kind", ["hang", "trickle"])
async def test_a_model_that_is_slow_is_waited_for_as_long_as_the_setting_says(
    model: Reranker, server: ModelServer, kind: Kind
) -> None:
    server.misbehave(kind, times=-1, seconds=20)
    began = time.monotonic()

    with pytest.raises(RerankUnavailable, match="within 1 s"):
        await model.scores("leave", TEXTS)

    assert time.monotonic() - began < 5


async def test_a_reply_without_end_is_broken_off(server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("query_api.retrieval.rerank_models._LARGEST_REPLY", 20)
    made = reranker_from(settings(server, "openai"))
    assert made is not None

    with pytest.raises(RerankUnavailable, match="ReadError"):
        await made.scores("leave", TEXTS)
    await made.close()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"provider": "cohere"}, r"rerank\.api_key"),
        ({"provider": "openai"}, r"rerank\.url"),
        ({"provider": "openai", "url": "http://x/v1"}, r"rerank\.model"),
        ({"provider": "openai", "url": "ftp://x", "model": "m"}, r"rerank\.url"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_start(given: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        reranker_from(RerankSettings(**given))


def test_none_is_no_reranker() -> None:
    assert reranker_from(RerankSettings()) is None


@given(st.integers(1, 20).flatmap(lambda n: st.permutations(range(n))))
def test_every_complete_reply_gives_each_text_its_score(order: Sequence[int]) -> None:
    assert checked([(at, at / 7) for at in order], len(order), "m") == [at / 7 for at in range(len(order))]


@given(
    st.lists(
        st.tuples(
            st.integers(-2, 5) | st.booleans() | st.none() | st.text(max_size=2),
            st.floats() | st.booleans() | st.none(),
        ),
        max_size=6,
    )
)
def test_any_other_reply_is_refused_whole(results: list[tuple[object, object]]) -> None:
    try:
        scores = checked(results, 4, "m")
    except RerankUnavailable:
        return
    assert len(results) == len(scores) == 4
    assert {index for index, _ in results} == set(range(4))
    assert all(math.isfinite(score) for score in scores)


def test_a_text_that_is_scored_twice_spoils_a_reply_that_scores_all() -> None:
    with pytest.raises(RerankUnavailable, match="numbered"):
        checked([(0, 1.0), (1, 0.5), (0, 0.2)], 2, "m")


class FakeReranker:
    """Prefers the texts it is told to; counts, and fails on command."""

    def __init__(self, *favourites: str, fails: bool = False) -> None:
        self.favourites = favourites
        self.fails = fails
        self.asked: list[Sequence[str]] = []

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        self.asked.append(texts)
        if self.fails:
            raise RerankUnavailable("away")
        return [float(sum(favourite in text for favourite in self.favourites)) for text in texts]

    async def close(self) -> None:
        return None


def held(count: int) -> FakeIndex:
    names = [f"d{n}" for n in range(count)]
    found = [
        candidate(f"acme/handbook/{name}", name, text=f"text of {name}.", score=1 / (1 + at))
        for at, name in enumerate(names)
    ]
    return FakeIndex(found, [manifest(f"acme/handbook/{name}", name) for name in names])


async def search(index: FakeIndex, reranker: Reranker | None, **more: Any) -> Found:
    retrieval = Retrieval(index, FakeEmbedder(), reranker, rerank_depth=10)
    criteria = Criteria(Rights("acme", {"handbook": True}, None))
    return await retrieval.search(LIVE, criteria, query="q", mode="hybrid", **{"limit": 2, **more})


async def test_the_model_chooses_among_more_hits_than_are_shown() -> None:
    reranker = FakeReranker("d7.", "d9.")

    found = await search(held(30), reranker)

    assert [hit.document_id for hit in found.hits] == ["d7", "d9"]
    assert [len(texts) for texts in reranker.asked] == [10]
    assert found.hits[0].parts == {"fused": 1 / 8, "rerank": 1.0}
    assert (found.hits[0].score, found.degraded) == (1.0, ())


async def test_equal_scores_keep_the_order_they_had() -> None:
    found = await search(held(30), FakeReranker())

    assert [hit.document_id for hit in found.hits] == ["d0", "d1"]


async def test_a_model_that_is_away_costs_its_order_and_nothing_else() -> None:
    plain = await search(held(30), None)
    away = await search(held(30), FakeReranker(fails=True))

    assert away.hits == plain.hits
    assert (plain.degraded, away.degraded) == ((), ("rerank",))


@pytest.mark.parametrize(
    ("configured", "asked", "calls", "degraded"),
    [
        (True, None, 1, ()),
        (True, True, 1, ()),
        (True, False, 0, ()),
        (False, None, 0, ()),
        (False, False, 0, ()),
        (False, True, 0, ("rerank",)),
    ],
)
async def test_who_asks_for_an_order_and_gets_none_is_told(
    configured: bool, asked: bool | None, calls: int, degraded: tuple[str, ...]
) -> None:
    reranker = FakeReranker()

    found = await search(held(5), reranker if configured else None, rerank=asked)

    assert (len(reranker.asked), found.degraded) == (calls, degraded)


async def test_over_http_the_response_says_that_the_order_is_not_the_models() -> None:
    client = app_around(held(5), FakeEmbedder(), reranker=FakeReranker(fails=True)).client

    answered = [
        (await client.post(path, json={"query": "text", "explain": True})).json()
        for path in ("/v1/search", "/v1/query")
    ]

    assert [body["degraded"] for body in answered] == [["rerank"], ["rerank"]]
    assert [len(body["hits"]) for body in answered] == [5, 5]


async def test_over_http_explain_shows_the_models_part() -> None:
    client = app_around(held(5), FakeEmbedder(), reranker=FakeReranker("d3.")).client

    best = (await client.post("/v1/search", json={"query": "text", "explain": True})).json()["hits"][0]

    assert (best["document_id"], best["score"]) == ("d3", 1.0)
    assert best["explain"] == {"fused": 0.25, "rerank": 1.0}
