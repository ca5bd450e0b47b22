"""The query API over HTTP, with its ports in memory: what callers get, right and wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest

from query_api.answering.answers import Answer, AnswerUnavailable
from query_api.answering.extractive import Extractive
from query_api.retrieval.ports import IndexUnavailable, ModelMismatch, ModelUnavailable, NoIndex
from query_api.retrieval.visibility import Hit
from runtime.access import ApiKey, KnowledgeBase
from runtime.progress import Accepted
from runtime.settings import Limits, QueryApi
from schemas.records import Receipt, ReceiptStage
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex, candidate, manifest
from tests.unit.query_api.fakes import NOW_MS, FakeDirectory, FakeFreshness, Parts, api_key, app_around

DOC = "acme/handbook/leave"
TEXT = "Parental leave lasts forty weeks."


def with_one_hit(**more: Any) -> Parts:
    return app_around(
        FakeIndex([candidate(DOC, text=TEXT)], [manifest(DOC, "c", length=len(TEXT))]), FakeEmbedder(), **more
    )


def lines(log: StringIO, event: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == event]


async def test_a_search_answers_with_all_that_was_promised() -> None:
    parts = with_one_hit()

    answered = await parts.client.post("/v1/search", json={"query": "leave"})

    assert answered.status_code == 200
    body = answered.json()
    assert set(body) == {"hits", "position", "generation", "took_ms", "degraded"}
    assert set(body["hits"][0]) == {
        *("document_id", "knowledge_base", "chunk_id", "text", "title", "score", "start", "end", "heading", "page"),
        *("metadata", "source", "version"),
    }
    assert answered.headers["X-Request-ID"]


async def test_a_question_is_answered_in_quotes_and_says_so() -> None:
    body = (await with_one_hit().client.post("/v1/query", json={"query": "how long is leave?"})).json()

    assert body["model"] == "extractive"
    assert body["answer"] == TEXT
    assert body["citations"] == [
        {
            "hit": 0,
            "document_id": "leave",
            "knowledge_base": "handbook",
            "version": body["hits"][0]["version"],
            "chunk_id": "c",
            "quote": TEXT,
            "start": 0,
            "end": len(TEXT),
            "answer_start": 0,
            "answer_end": len(TEXT),
        }
    ]


async def test_without_hits_no_model_is_asked() -> None:
    class Never:
        async def answer(self, question: str, hits: object) -> Answer:
            raise AssertionError("asked")

    parts = app_around(FakeIndex(), FakeEmbedder(), answerer=Never())

    body = (await parts.client.post("/v1/query", json={"query": "leave"})).json()

    assert (body["model"], body["citations"], body["hits"]) == ("none", [], [])
    assert body["answer"]


@pytest.mark.parametrize(
    ("body", "field", "fix"),
    [
        ({"query": "x" * 1001}, "query", "shorten it to at most 1000 characters"),
        ({"query": " \x07\x1b\u202e "}, "query", "write what to look for"),
        ({"query": "q\x00"}, "query", "take the NUL characters out"),
        ({"query": "q\ud800"}, "query", "send whole characters: each surrogate with its other half"),
        (
            {"query": "q", "filters": {"team": ["a", "\udc00"]}},
            "filters.team.1",
            "send whole characters: each surrogate with its other half",
        ),
        ({}, "query", "add it"),
        ({"query": "q", "top_k": 3}, "top_k", "remove it, or check its spelling against /docs"),
        ({"query": "q", "limit": 0}, "limit", "use 1 or more"),
        ({"query": "q", "limit": 101}, "limit", "use at most 100"),
        ({"query": "q", "mode": "magic"}, "mode", "use one of 'hybrid', 'vector' or 'keyword'"),
        ({"query": "q", "knowledge_bases": []}, "knowledge_bases", "give at least 1"),
        ({"query": "q", "filters": {"colour": 1}}, "filters.colour", "use one of document_id, source, year"),
        ({"query": "q", "min_position": "x"}, "min_position", "send the `position` that the write was answered with"),
        ({"query": "q", "wait_ms": 30001}, "wait_ms", "use 30000 or less"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/search", "/v1/query"])
async def test_each_mistake_is_named_with_its_fix(path: str, body: dict[str, Any], field: str, fix: str) -> None:
    # Not `json=`: httpx itself refuses what is no Unicode.
    answered = await with_one_hit().client.post(
        path, content=json.dumps(body), headers={"Content-Type": "application/json"}
    )

    assert answered.status_code == 422
    assert answered.headers["Content-Type"] == "application/problem+json"
    told = answered.json()
    assert told["type"] == "/problems/validation-failed"
    assert (field, fix) in {(error["field"], error["fix"]) for error in told["errors"]}


async def test_a_thousand_characters_are_not_too_many() -> None:
    assert (await with_one_hit().client.post("/v1/search", json={"query": "x" * 1000})).status_code == 200


async def test_control_characters_never_reach_the_index() -> None:
    index, embedder = FakeIndex(), FakeEmbedder()

    await app_around(index, embedder).client.post("/v1/search", json={"query": "par\x07ental\n\x1bleave\u202e"})

    assert index.asks[0].text == "parental leave"
    assert embedder.asked == [("model_a", "parental leave")]


async def test_an_unknown_knowledge_base_is_a_404_that_names_the_known_ones() -> None:
    answered = await with_one_hit().client.post("/v1/search", json={"query": "q", "knowledge_bases": ["zzz"]})

    assert answered.status_code == 404
    assert answered.json()["type"] == "/problems/knowledge-base-not-found"
    assert "handbook" in answered.json()["detail"]


async def test_before_the_directory_is_read_an_unknown_base_is_not_denied() -> None:
    directory = FakeDirectory(held=[], ready=False)

    answered = await with_one_hit(directory=directory).client.post(
        "/v1/search", json={"query": "q", "knowledge_bases": ["handbook"]}
    )

    assert answered.status_code == 503


async def test_an_upload_key_may_not_search() -> None:
    directory = FakeDirectory(known=[api_key("tw_ingest", scopes=("ingest",))])

    answered = await with_one_hit(directory=directory).client.post(
        "/v1/search", json={"query": "q"}, headers={"Authorization": "Bearer tw_ingest"}
    )

    assert answered.status_code == 403
    assert answered.json()["scope"] == "query"


@pytest.mark.parametrize("path", ["/v1/search", "/v1/query"])
async def test_nothing_is_open_without_a_key(path: str) -> None:
    answered = await with_one_hit().client.post(path, json={"query": "q"}, headers={"Authorization": ""})

    assert answered.status_code == 401
    assert answered.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NoIndex("none"), "no-index"),
        (IndexUnavailable("away"), "unavailable"),
    ],
)
async def test_a_store_that_is_away_is_a_503_with_retry_after(error: Exception, kind: str) -> None:
    answered = await app_around(FakeIndex(fails=error), FakeEmbedder()).client.post("/v1/search", json={"query": "q"})

    assert (answered.status_code, answered.json()["type"]) == (503, f"/problems/{kind}")
    assert answered.headers["Retry-After"]


@pytest.mark.parametrize(
    ("error", "kind"), [(ModelMismatch("built with x"), "model-mismatch"), (ModelUnavailable("slow"), "unavailable")]
)
async def test_a_model_that_does_not_fit_is_a_503_that_says_so(error: Exception, kind: str) -> None:
    parts = app_around(FakeIndex(), FakeEmbedder(fails=error))
    answered = await parts.client.post("/v1/search", json={"query": "q", "mode": "vector"})

    assert (answered.status_code, answered.json()["type"]) == (503, f"/problems/{kind}")
    assert answered.headers["Retry-After"]
    assert str(error) in answered.json()["detail"]


async def test_an_answering_model_that_is_away_is_a_503() -> None:
    class Away(Extractive):
        async def answer(self, question: str, hits: object) -> Answer:
            raise AnswerUnavailable("the model is busy")

    answered = await with_one_hit(answerer=Away()).client.post("/v1/query", json={"query": "q"})

    assert (answered.status_code, answered.json()["type"]) == (503, "/problems/unavailable")


def ended(offset: int) -> Receipt:
    return Receipt("acme", "handbook", "d", ReceiptStage.INDEXED, f"uploads/0@{offset}", "v", "s", receipt_ms=offset)


async def test_a_search_waits_for_a_position_or_says_how_far_behind_the_index_is() -> None:
    parts = with_one_hit()
    parts.freshness.progress.take(ended(4))

    there = await parts.client.post("/v1/search", json={"query": "q", "min_position": "uploads/0@4", "wait_ms": 500})
    behind = await parts.client.post("/v1/search", json={"query": "q", "min_position": ["uploads/0@4", "uploads/0@9"]})

    assert (there.status_code, there.json()["position"]) == (200, "uploads/0@4")
    assert behind.status_code == 409
    assert behind.headers["Retry-After"] == "1"
    assert behind.json()["type"] == "/problems/not-yet-indexed"
    assert behind.json()["behind"] == [{"position": "uploads/0@9", "reached": "uploads/0@4", "records": 5}]
    assert parts.freshness.asked == [0.5, 0.0]


async def test_a_write_that_was_parked_is_no_silent_miss() -> None:
    parts = with_one_hit()
    parked = replace(ended(4), stage=ReceiptStage.FAILED, reason="encrypted")
    parts.freshness.progress.take(parked)
    parts.freshness.progress.take(replace(parked, tenant="globex", accepted="uploads/0@5"))
    body = {"query": "q", "min_position": ["uploads/0@4", "uploads/0@5"]}

    answered = await parts.client.post("/v1/search", json=body)
    parts.freshness.progress.take(ended(4))
    redriven = await parts.client.post("/v1/search", json=body)

    assert (answered.status_code, answered.json()["type"]) == (409, "/problems/write-failed")
    assert answered.headers["Retry-After"]
    assert answered.json()["failed"] == [{"position": "uploads/0@4", "reason": "encrypted"}]
    assert redriven.status_code == 200, "what another tenant failed with is nobody else's business"


@pytest.mark.parametrize("path", ["/v1/search", "/v1/query"])
@pytest.mark.parametrize(
    ("then", "told"),
    [
        ([], (401, "/problems/unauthenticated")),
        ([api_key("tw_admin", active=False)], (401, "/problems/unauthenticated")),
        ([api_key("tw_admin", expires_ms=NOW_MS)], (401, "/problems/unauthenticated")),
        ([api_key("tw_admin", scopes=("ingest",))], (403, "/problems/forbidden")),
        ([api_key("tw_admin", roles={"elsewhere": "viewer"})], (404, "/problems/knowledge-base-not-found")),
    ],
)
async def test_whose_key_was_revoked_during_its_wait_is_not_answered(
    path: str, then: list[ApiKey], told: tuple[int, str]
) -> None:
    class Waiting(FakeFreshness):
        async def wait(self, positions: Sequence[Accepted], timeout_s: float) -> list[Accepted]:
            parts.directory.known = then
            return []

    index = FakeIndex([candidate(DOC)], [manifest(DOC, "c")])
    parts = app_around(index, FakeEmbedder(), freshness=Waiting())
    body = {"query": "q", "knowledge_bases": ["handbook"], "min_position": "uploads/0@4", "wait_ms": 500}

    answered = await parts.client.post(path, json=body)

    assert (answered.status_code, answered.json()["type"]) == told
    assert index.asks == []


async def test_being_asked_who_one_is_again_counts_as_no_request() -> None:
    parts = with_one_hit(rates=Limits(per_administrator=2, burst=0))

    answered = [await parts.client.post("/v1/search", json={"query": "q"}) for _ in range(3)]

    assert [one.status_code for one in answered] == [200, 200, 429]


@pytest.mark.parametrize("path", ["/v1/search", "/v1/query"])
async def test_rights_are_those_after_the_wait(path: str) -> None:
    directory = FakeDirectory()

    class Waiting(FakeFreshness):
        async def wait(self, positions: Sequence[Accepted], timeout_s: float) -> list[Accepted]:
            meanwhile()
            return []

    def meanwhile() -> None:
        directory.held = [KnowledgeBase("acme", "handbook", absent_access="nobody")]

    parts = with_one_hit(directory=directory, freshness=Waiting())
    body = {"query": "q", "min_position": "uploads/0@4", "wait_ms": 500}
    reader = {"Authorization": "Bearer tw_reader"}
    before = (await parts.client.post(path, json={"query": "q"}, headers=reader)).json()
    after = (await parts.client.post(path, json=body, headers=reader)).json()

    assert (len(before["hits"]), len(after["hits"])) == (1, 0)


async def test_without_kafka_a_position_is_unknowable_and_said_to_be() -> None:
    parts = with_one_hit()
    parts.freshness.connected = False

    answered = await parts.client.post("/v1/search", json={"query": "q", "min_position": "uploads/0@4"})

    assert answered.status_code == 503


async def test_doc_ids_become_keys_within_the_callers_bases() -> None:
    index = FakeIndex()
    directory = FakeDirectory(held=[KnowledgeBase("acme", "a"), KnowledgeBase("acme", "b")])

    await app_around(index, FakeEmbedder(), directory=directory).client.post(
        "/v1/search", json={"query": "q", "doc_ids": ["x"]}
    )

    assert index.criteria[0].documents == ("acme/a/x", "acme/b/x")


async def test_a_document_in_two_bases_is_asked_back() -> None:
    index = FakeIndex(listed=[manifest("acme/a/x", "c"), manifest("acme/b/x", "c")])
    directory = FakeDirectory(held=[KnowledgeBase("acme", "a"), KnowledgeBase("acme", "b")])
    client = app_around(index, FakeEmbedder(), directory=directory).client

    assert (await client.get("/v1/documents/x")).status_code == 409
    assert (await client.get("/v1/documents/x?knowledge_base=b")).json()["knowledge_base"] == "b"


async def test_no_log_line_holds_the_query(log: StringIO) -> None:
    parts = with_one_hit()

    for path in ("/v1/search", "/v1/query"):
        await parts.client.post(path, json={"query": "canary phrase", "filters": {"year": 1}})
        await parts.client.post(path, json={"query": "canary phrase", "filters": {"canary": 1}})
        await parts.client.post(f"{path}?q=canary", json={"query": "canary" * 300})

    assert len(lines(log, "query_completed")) == 2
    assert len(lines(log, "request")) == 6
    assert "canary" not in log.getvalue()
    assert lines(log, "query_completed")[0]["query_length"] == len("canary phrase")


@pytest.mark.parametrize(("seconds", "warnings"), [(2.9, 0), (3.1, 1)])
async def test_a_slow_query_is_warned_about_exactly_once(log: StringIO, seconds: float, warnings: int) -> None:
    ticks = iter([0.0, 0.1, seconds, seconds, seconds])
    parts = with_one_hit(clock=lambda: next(ticks), settings=QueryApi(slow_query_ms=3000))

    await parts.client.post("/v1/search", json={"query": "q"})

    assert len(lines(log, "slow_query")) == warnings


async def test_ten_slow_searches_run_side_by_side_and_health_answers_meanwhile() -> None:
    started = asyncio.Event()
    count = 0

    class Slow(FakeEmbedder):
        async def embed(self, model: str, text: str) -> list[float]:
            nonlocal count
            count += 1
            if count == 10:
                started.set()
            await release.wait()
            return [1.0]

    release = asyncio.Event()
    client = app_around(FakeIndex(), Slow()).client
    searches = [asyncio.create_task(client.post("/v1/search", json={"query": "q"})) for _ in range(10)]
    async with asyncio.timeout(10):
        await started.wait()
        assert (await client.get("/health")).status_code == 200
        release.set()
        assert [answered.status_code for answered in await asyncio.gather(*searches)] == [200] * 10


async def test_queries_are_counted_by_route() -> None:
    parts = with_one_hit()

    await parts.client.post("/v1/search", json={"query": "q"})
    await parts.client.post("/v1/query", json={"query": "q"})
    told = (await parts.client.get("/metrics")).text

    for line in (
        'thalweg_query_duration_seconds_count{route="/v1/search"} 1.0',
        'thalweg_query_duration_seconds_count{route="/v1/query"} 1.0',
        "thalweg_retrieval_duration_seconds_count 2.0",
        "thalweg_generation_duration_seconds_count 1.0",
        "thalweg_query_results_sum 2.0",
        'thalweg_http_requests_total{method="POST",route="/v1/search",status="200"} 1.0',
    ):
        assert line in told


async def test_explain_is_told_only_when_asked_for() -> None:
    client = with_one_hit().client

    plain = (await client.post("/v1/search", json={"query": "q"})).json()["hits"][0]
    explained = (await client.post("/v1/search", json={"query": "q", "explain": True})).json()["hits"][0]

    assert "explain" not in plain
    assert explained["explain"] == {}


def test_the_hit_of_a_search_has_no_field_for_a_vector() -> None:
    assert not [name for name in Hit.__dataclass_fields__ if "vector" in name]


async def test_stats_tell_how_much_there_is_and_when_that_was() -> None:
    """Counts pass by access lists, so how many documents there are is an admin's to know, under either name."""
    parts = with_one_hit()
    told = (await parts.client.get("/v1/stats")).json()
    reader = (await parts.client.get("/v1/stats", headers={"Authorization": "Bearer tw_reader"})).json()

    assert (told["documents"], told["total_documents"], told["chunks"]) == (1, 1, 1)
    assert (reader["documents"], reader["total_documents"], reader["chunks"]) == (None, None, 1)
    assert told["index_type"] == "hybrid"
    assert told["timestamp"] == "1970-01-01T00:16:40Z", "the moment of NOW_MS"
