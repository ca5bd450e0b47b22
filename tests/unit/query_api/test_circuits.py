"""Models that fail on command, by their real protocols: what is answered without them, and how often they are asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
import structlog
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from query_api.answering.answers import Answer, AnswerLater, AnswerUnavailable
from query_api.answering.extractive import Extractive
from query_api.answering.model_http import answering_client
from query_api.answering.select import answerer_from
from query_api.checks import checks
from query_api.circuits import Circuits, FallingBack, SparedAnswerer, SparedReranker
from query_api.retrieval.ports import Live
from query_api.retrieval.query_embedding import ThreadedEmbedder
from query_api.retrieval.rerank_models import reranker_from
from runtime.embedding.select import configured_fingerprint, embedder_of
from runtime.metrics import Metrics, declare
from runtime.settings import Embedding, Rerank
from runtime.settings_answering import Answer as AnswerSettings
from runtime.settings_answering import Prices
from runtime.spending import Spending
from schemas.index.contract import Generation
from tests.stand_ins.model_control import Kind
from tests.stand_ins.model_server import ModelServer
from tests.unit.query_api.fake_index import FakeIndex, candidate, manifest
from tests.unit.query_api.fakes import FakeDirectory, FakeFreshness, Parts, app_around
from tests.unit.query_api.hits import LEAVE

DOC = "acme/handbook/leave"
TEXT = "Parental leave lasts forty weeks."
NO_TRY_AGAIN: list[Kind] = ["server_error", "hang", "drop", "garbage"]


@dataclass
class World:
    """An app whose three models are the stand-in; `now` moves the breakers' clock. patience_s: for each model."""

    models: ModelServer
    index: FakeIndex
    now: list[float] = field(default_factory=lambda: [0.0])
    asked: int = 0
    patience_s: float = 10.0

    def assemble(self, http: httpx.AsyncClient) -> tuple[Parts, Circuits]:
        key = SecretStr("k")
        embedding = Embedding(
            provider="openai",
            url=self.models.openai_url,
            api_key=key,
            model="m",
            dimension=64,
            timeout_s=self.patience_s,
        )
        made = configured_fingerprint(embedding)
        self.index.now = Live(Generation(made.key(), 2, "test", embedding=made.record()), {})
        answer = AnswerSettings(
            provider="openai", url=self.models.openai_url, api_key=key, model="m", timeout_s=self.patience_s
        )
        rerank = Rerank(provider="cohere", url=self.models.url, api_key=key, timeout_s=self.patience_s)
        metrics: list[Metrics] = []

        def told(part: str, state: str) -> None:
            if metrics:
                metrics[0].circuit_told(part, state)  # type: ignore[arg-type]

        circuits = Circuits.told_to(told, lambda: self.now[0])
        model = reranker_from(rerank)
        assert model is not None
        own = declare(CollectorRegistry())
        embedder = ThreadedEmbedder(
            lambda generation: embedder_of(generation.embedding, embedding),
            own,
            threads=2,
            timeout_s=4 * self.patience_s,
            breaker=circuits.embedding,
        )
        parts = app_around(
            self.index,
            embedder,
            answerer=SparedAnswerer(answerer_from(answer, http, Spending(Prices(), own)), circuits.answer),
            instead=Extractive(),
            reranker=SparedReranker(model, circuits.rerank),
            checks=checks(self.index, embedder, FakeDirectory(), FakeFreshness(), circuits.all),
        )
        metrics.append(parts.metrics)
        return parts, circuits

    async def ask(self, parts: Parts, path: str = "/v1/query", **more: object) -> httpx.Response:
        """Another question each time, so that no vector is kept for it."""
        self.asked += 1
        return await parts.client.post(path, json={"query": f"parental leave {self.asked}", **more})

    def calls(self, path: str) -> int:
        return len(self.models.calls(path))


@asynccontextmanager
async def world(patience_s: float = 10.0) -> AsyncIterator[tuple[World, Parts, Circuits]]:
    with ModelServer() as models:
        index = FakeIndex([candidate(DOC, text=TEXT)], [manifest(DOC, "c", length=len(TEXT))])
        here = World(models, index, patience_s=patience_s)
        async with answering_client(patience_s) as http:
            yield here, *here.assemble(http)


async def test_with_all_models_well_nothing_is_degraded() -> None:
    async with world() as (here, parts, circuits):
        told = (await here.ask(parts)).json()

        assert (told["degraded"], told["model"]) == ([], "m")
        assert [breaker.state for breaker in circuits.all] == ["closed"] * 4


@pytest.mark.parametrize("kind", NO_TRY_AGAIN)
async def test_an_embedder_that_is_away_leaves_the_keywords_and_says_so(kind: Kind) -> None:
    async with world(patience_s=0.5) as (here, parts, _):
        here.models.misbehave(kind, -1, path="embeddings", seconds=1.0)

        answered = await here.ask(parts, "/v1/search")

        assert answered.status_code == 200
        assert answered.json()["degraded"] == ["embedding"]
        assert [hit["text"] for hit in answered.json()["hits"]] == [TEXT]
        assert here.index.asks[-1].mode == "keyword"


async def test_a_vector_search_without_the_embedder_is_an_honest_503() -> None:
    async with world() as (here, parts, _):
        here.models.misbehave("server_error", -1, path="embeddings")

        answered = await here.ask(parts, "/v1/search", mode="vector")

        assert (answered.status_code, answered.json()["type"]) == (503, "/problems/unavailable")
        assert answered.headers["Retry-After"]


async def test_a_broken_embedder_is_asked_five_times_then_once_a_wait_and_found_again() -> None:
    async with world() as (here, parts, circuits):
        here.models.misbehave("server_error", -1, path="embeddings")
        degraded = [(await here.ask(parts, "/v1/search")).json()["degraded"] for _ in range(12)]

        assert degraded == [["embedding"]] * 12
        assert here.calls("embeddings") == 5
        assert parts.metrics.circuit_state.labels(part="embedding")._value.get() == 2

        here.now[0] += 1.0
        for _ in range(5):
            await here.ask(parts, "/v1/search")
        assert here.calls("embeddings") == 6

        here.models.reset()
        here.now[0] += 2.0
        assert (await here.ask(parts, "/v1/search")).json()["degraded"] == []
        assert circuits.embedding.state == "closed"
        assert parts.metrics.circuit_state.labels(part="embedding")._value.get() == 0


async def test_a_question_asked_before_needs_no_embedder() -> None:
    async with world() as (here, parts, circuits):
        body = {"query": "the same"}
        await parts.client.post("/v1/search", json=body)
        here.models.misbehave("server_error", -1, path="embeddings")
        for _ in range(5):
            await here.ask(parts, "/v1/search")

        assert circuits.embedding.state == "open"
        assert (await parts.client.post("/v1/search", json=body)).json()["degraded"] == []


@pytest.mark.parametrize("kind", NO_TRY_AGAIN)
async def test_an_answering_model_that_is_away_leaves_a_quote_that_says_so(kind: Kind) -> None:
    async with world(patience_s=0.5) as (here, parts, _):
        here.models.misbehave(kind, -1, path="chat", seconds=1.0)

        answered = await here.ask(parts)

        assert answered.status_code == 200
        told = answered.json()
        assert (told["model"], told["degraded"]) == ("extractive", ["answer"])
        assert told["answer"] == TEXT
        assert told["citations"][0]["quote"] == TEXT


async def test_a_broken_answering_model_is_left_alone_after_five_questions() -> None:
    async with world() as (here, parts, circuits):
        # With a wish that is longer than a second try would wait: each question asks once.
        here.models.misbehave("overloaded", -1, path="chat", retry_after=7)
        found = [(await here.ask(parts)).json() for _ in range(9)]

        assert {told["model"] for told in found} == {"extractive"}
        assert (here.calls("chat"), circuits.answer.state) == (5, "open")

        here.models.reset()
        here.now[0] += 6.9
        assert (await here.ask(parts)).json()["degraded"] == ["answer"]
        here.now[0] += 0.2
        told = (await here.ask(parts)).json()
        assert (told["model"], told["degraded"]) == ("m", [])


@pytest.mark.parametrize("kind", ["unauthorised", "unknown_model", "bad_request"])
async def test_what_a_person_has_to_mend_opens_no_circuit_and_is_told_as_that_each_time(kind: Kind) -> None:
    async with world() as (here, parts, circuits):
        here.models.misbehave(kind, -1)

        with structlog.testing.capture_logs() as logs:
            found = [(await here.ask(parts)).json() for _ in range(7)]

        assert all(told["degraded"] == ["embedding", "rerank", "answer"] for told in found)
        assert [breaker.state for breaker in circuits.all] == ["closed"] * 4
        failed = [log for log in logs if log["event"] in ("embedding_failed", "rerank_failed", "answer_failed")]
        assert len(failed) == 21
        assert {log["log_level"] for log in failed} == {"error"}
        here.models.reset()
        assert (await here.ask(parts)).json()["degraded"] == []


@pytest.mark.parametrize(
    ("wish", "told"), [(0, "1"), (17, "17"), (17.2, "18"), (900, "60"), ("nonsense", "2"), (None, "2")]
)
async def test_a_vendors_wish_is_handed_on_within_bounds(wish: float | str | None, told: str) -> None:
    async with world() as (here, parts, _):
        here.models.misbehave("rate_limit", -1, path="embeddings", retry_after=wish)

        answered = await here.ask(parts, "/v1/search", mode="vector")

        assert (answered.status_code, answered.headers["Retry-After"]) == (503, told)


async def test_a_search_that_an_open_circuit_refuses_says_when_it_may_close() -> None:
    async with world() as (here, parts, circuits):
        here.models.misbehave("server_error", -1, path="embeddings")
        for step in (0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 4.0):
            here.now[0] += step
            await here.ask(parts, "/v1/search", mode="vector")

        answered = await here.ask(parts, "/v1/search", mode="vector")

        assert circuits.embedding.state == "open"
        assert (answered.status_code, answered.headers["Retry-After"]) == (503, "8")


async def test_a_broken_reranker_is_left_alone_after_five_searches() -> None:
    async with world() as (here, parts, circuits):
        here.models.misbehave("server_error", -1, path="rerank")
        found = [(await here.ask(parts, "/v1/search")).json() for _ in range(9)]

        assert all(told["degraded"] == ["rerank"] for told in found)
        assert (here.calls("rerank"), circuits.rerank.state) == (5, "open")


async def test_a_quote_that_stood_in_for_the_model_is_not_kept() -> None:
    async with world() as (here, parts, _):
        body = {"query": "how long is parental leave?"}
        here.models.misbehave("bad_request", -1, path="chat")
        assert (await parts.client.post("/v1/query", json=body)).json()["degraded"] == ["answer"]
        here.models.reset()

        assert (await parts.client.post("/v1/query", json=body)).json()["model"] == "m"
        here.models.misbehave("bad_request", -1, path="chat")
        kept = (await parts.client.post("/v1/query", json=body)).json()
        assert (kept["model"], kept["degraded"]) == ("m", [])


async def test_everything_away_at_once_is_said_part_by_part() -> None:
    async with world() as (here, parts, _):
        here.models.misbehave("server_error", -1)

        told = (await here.ask(parts)).json()

        assert told["degraded"] == ["embedding", "rerank", "answer"]
        assert told["answer"] == TEXT


async def test_health_shows_an_open_circuit_and_the_service_stays_ready() -> None:
    async with world() as (here, parts, _):
        await here.ask(parts)
        here.models.misbehave("server_error", -1)
        for _ in range(5):
            await here.ask(parts)

        health, ready = (await parts.client.get("/health")).json(), await parts.client.get("/ready")

        assert health["status"] == "degraded"
        assert "asked again in" in health["dependencies"]["circuit_answer"]["detail"]
        assert health["dependencies"]["circuit_weaviate"]["ok"]
        assert ready.status_code == 200
        assert set(ready.json()["degraded"]) == {"circuit_embedding", "circuit_rerank", "circuit_answer"}


async def test_a_replica_that_cannot_load_its_model_is_ready_for_keywords() -> None:
    async with world() as (here, parts, _):
        here.models.misbehave("server_error", -1)
        here.index.now = Live(Generation("gone", 2, "test", embedding={"provider": "openai"}), {})

        ready = await parts.client.get("/ready")

        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")


class Breaking:
    """Streams so many stretches, then fails."""

    def __init__(self, stretches: int) -> None:
        self.stretches = stretches

    def identity(self, question: str) -> str:
        return "breaking"

    async def answer(self, question: str, hits: object) -> Answer:
        raise AnswerLater("away")

    async def stream(self, question: str, hits: object) -> AsyncIterator[str | Answer]:
        for number in range(self.stretches):
            yield f"{number} "
        raise AnswerLater("away")


async def streamed(stretches: int, circuits: Circuits) -> list[str | Answer]:
    answerer = FallingBack(SparedAnswerer(Breaking(stretches), circuits.answer), Extractive())  # type: ignore[arg-type]
    async with aclosing(answerer.stream("leave", [LEAVE])) as parts:
        return [part async for part in parts]


async def test_a_stream_that_never_began_is_a_quote_and_one_that_broke_off_is_an_error() -> None:
    circuits = Circuits.told_to(lambda *_: None, lambda: 0.0)

    *stretches, last = await streamed(0, circuits)
    assert isinstance(last, Answer)
    assert (last.degraded, "".join(map(str, stretches))) == (("answer",), last.text)
    with pytest.raises(AnswerUnavailable):
        await streamed(2, circuits)
    for _ in range(3):
        await streamed(0, circuits)
    assert circuits.answer.state == "open"
    assert isinstance((await streamed(0, circuits))[-1], Answer)
