"""Batches, feedback, and the vector store search of OpenAI's stock client, over the app with its ports in memory."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import openai
import pytest
import uvicorn

from query_api.answering.answers import Answer
from query_api.answering.extractive import Extractive
from query_api.retrieval.filters import AllOf, AnyOf, Comparison
from query_api.retrieval.visibility import Hit
from query_api.routes.batch import AT_ONCE, MOST_QUESTIONS
from runtime.access import KnowledgeBase
from runtime.producer import DeliveryFailed
from runtime.settings import Limits
from schemas.records import Feedback
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex, candidate, manifest
from tests.unit.query_api.fakes import NOW_MS, FakeDirectory, Parts, api_key, app_around

DOC = "acme/handbook/leave"
TEXT = "Parental leave lasts forty weeks."


def with_one_hit(**more: Any) -> Parts:
    index = FakeIndex([candidate(DOC, text=TEXT)], [manifest(DOC, "c", length=len(TEXT))])
    return app_around(index, FakeEmbedder(), **more)


async def batch(parts: Parts, *queries: object, key: str = "tw_admin") -> list[dict[str, Any]]:
    answered = await parts.client.post(
        "/v1/query/batch", json={"queries": list(queries)}, headers={"Authorization": f"Bearer {key}"}
    )
    assert answered.status_code == 200, answered.text
    results: list[dict[str, Any]] = answered.json()["results"]
    return results


class ByName(Extractive):
    """Answers with the question, one that says `boom` with a defect; how many are at work at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(3):
            await asyncio.sleep(0)
        self.now -= 1
        if question == "boom":
            raise ZeroDivisionError
        return Answer(question, (), "echo")


async def test_thirty_questions_are_answered_in_order_a_few_at_a_time_and_one_fails_alone() -> None:
    answerer = ByName()
    parts = with_one_hit(answerer=answerer)
    queries: list[dict[str, Any]] = [{"query": f"question {number}"} for number in range(30)]
    queries[7]["query"], queries[9]["query"], queries[11]["limit"] = "x" * 1001, "boom", 0
    queries[13] = {"query": "q", "knowledge_bases": ["zzz"]}

    results = await batch(parts, *queries)

    failed = {at: result for at, result in enumerate(results) if result["status"] != 200}
    assert {at: (one["status"], one["problem"]["type"]) for at, one in failed.items()} == {
        7: (422, "/problems/validation-failed"),
        9: (500, "/problems/internal"),
        11: (422, "/problems/validation-failed"),
        13: (404, "/problems/knowledge-base-not-found"),
    }
    assert failed[11]["problem"]["errors"][0]["field"] == "queries.11.limit"
    told = {at: result["answer"]["answer"] for at, result in enumerate(results) if at not in failed}
    assert told == {at: f"question {at}" for at in range(30) if at not in failed}
    assert 1 < answerer.most <= AT_ONCE


@pytest.mark.parametrize("queries", [[], [{"query": "q"}] * (MOST_QUESTIONS + 1), "q", None])
async def test_a_batch_is_bounded_and_is_a_list(queries: object) -> None:
    answered = await with_one_hit().client.post("/v1/query/batch", json={"queries": queries})

    assert answered.status_code == 422
    assert answered.json()["errors"][0]["field"] == "queries"


@pytest.mark.parametrize("raw", [None, 1, "text", [], {"query": 1}, {"query": "q", "surplus": 1}])
async def test_what_is_no_question_fails_alone_and_is_not_said_back(raw: object) -> None:
    good, bad = await batch(with_one_hit(), {"query": "leave"}, raw)

    assert (good["status"], bad["status"]) == (200, 422)
    assert bad["problem"]["errors"][0]["field"].startswith("queries.1")


async def test_each_question_of_a_batch_counts_against_the_rate() -> None:
    people = FakeDirectory(known=[api_key("tw_reader")])
    parts = with_one_hit(directory=people, rates=Limits(per_key=3, burst=0))

    results = await batch(parts, *[{"query": "leave"}] * 5, key="tw_reader")

    assert [result["status"] for result in results] == [200, 200, 200, 429, 429]
    assert results[3]["problem"]["type"] == "/problems/too-many-requests"
    assert 0 < results[3]["problem"]["retry_after"] <= 60
    again = await parts.client.post("/v1/search", json={"query": "q"}, headers={"Authorization": "Bearer tw_reader"})
    assert again.status_code == 429


async def test_answers_have_ids_of_their_own_which_the_audit_knows() -> None:
    parts = with_one_hit()
    told = [(await parts.client.post("/v1/query", json={"query": "leave"})).json()["answer_id"] for _ in range(2)]

    assert len(set(told)) == 2
    assert all(uuid.UUID(one) for one in told)
    assert [entry.detail["answers"] for entry in parts.audit.entries] == told


async def rate(parts: Parts, key: str = "tw_reader", **body: object) -> Any:
    given = {"answer_id": str(uuid.UUID(int=7)), "rating": 4, **body}
    return await parts.client.post("/v1/feedback", json=given, headers={"Authorization": f"Bearer {key}"})


async def test_a_rating_goes_to_the_topic_with_the_callers_tenant_and_into_the_mean() -> None:
    parts = with_one_hit()

    answered = [await rate(parts, rating=5, comment="just right"), await rate(parts, rating=3)]

    assert [one.status_code for one in answered] == [202, 202]
    assert answered[0].json() == {"answer_id": str(uuid.UUID(int=7)), "position": "feedback/0@0"}
    assert parts.log.records[0] == Feedback(str(uuid.UUID(int=7)), "acme", "tw_reader", 5, "just right", NOW_MS)
    assert parts.log.records[0].key == f"acme/{uuid.UUID(int=7)}/tw_reader"
    assert parts.metrics.user_satisfaction_score._value.get() == 4.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rating", 0),
        ("rating", 6),
        ("rating", 4.5),
        ("rating", True),
        ("answer_id", "mine"),
        ("comment", "x" * 2001),
        ("tenant", "other"),
    ],
)
async def test_a_rating_that_is_none_is_refused(field: str, value: object) -> None:
    parts = with_one_hit()
    answered = await rate(parts, **{field: value})

    assert answered.status_code == 422
    assert [error["field"] for error in answered.json()["errors"]] == [field]
    assert parts.log.records == []


async def test_a_rating_that_kafka_does_not_take_is_not_counted() -> None:
    parts = with_one_hit()
    parts.log.fails = DeliveryFailed("away", retriable=True)

    answered = await rate(parts)

    assert (answered.status_code, answered.headers["Retry-After"]) == (503, "5")
    assert parts.metrics.user_satisfaction_score._value.get() == 0


@contextmanager
def served(parts: Parts) -> Iterator[str]:
    """The app on a real port, on a thread."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(parts.app, log_config=None, lifespan="off", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()


def client(url: str, key: str = "tw_admin") -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=10)


def two_documents() -> tuple[FakeIndex, Parts]:
    index = FakeIndex(
        [candidate(DOC, text=TEXT, score=0.9), candidate("acme/handbook/food", "d", text="Soup.", score=0.2)],
        [manifest(DOC, "c", length=len(TEXT)), manifest("acme/handbook/food", "d", length=5)],
    )
    held = [KnowledgeBase("acme", "handbook"), KnowledgeBase("acme", "other")]
    return index, app_around(index, FakeEmbedder(), directory=FakeDirectory(held=held))


def test_the_stock_openai_client_searches() -> None:
    index, parts = two_documents()
    with served(parts) as url:
        found = client(url).vector_stores.search(
            "handbook",
            query="how long is leave?",
            max_num_results=7,
            filters={
                "type": "and",
                "filters": [
                    {"type": "gte", "key": "year", "value": 2020},
                    {"type": "or", "filters": [{"type": "eq", "key": "team", "value": "a"}]},
                ],
            },
            rewrite_query=False,
        )
        results = list(found)

    assert [(one.file_id, one.content[0].text, one.content[0].type) for one in results] == [
        ("leave", TEXT, "text"),
        ("food", "Soup.", "text"),
    ]
    assert results[0].score == 0.9
    assert found.object == "vector_store.search_results.page"
    asked = index.criteria[0]
    assert set(asked.rights.bases) == {"handbook"}
    year = Comparison("f_n_year", "number", "gte", 2020.0)
    assert asked.filter == AllOf((year, AnyOf((Comparison("f_s_team", "text", "eq", "a"),))))


def test_it_leaves_out_what_scores_less_and_pages_no_further() -> None:
    _, parts = two_documents()
    with served(parts) as url:
        found = client(url).vector_stores.search(
            "handbook", query=["leave"], ranking_options={"ranker": "auto", "score_threshold": 0.5}
        )

        assert [one.file_id for one in found.data] == ["leave"]
        assert found.has_next_page() is False


def test_the_stock_client_is_told_its_mistakes_in_its_own_errors() -> None:
    _, parts = two_documents()
    with served(parts) as url:
        with pytest.raises(openai.NotFoundError) as missing:
            client(url).vector_stores.search("nowhere", query="q")
        with pytest.raises(openai.AuthenticationError):
            client(url, "tw_stranger").vector_stores.search("handbook", query="q")
        with pytest.raises(openai.UnprocessableEntityError) as rewritten:
            client(url).vector_stores.search("handbook", query="q", rewrite_query=True)

    assert missing.value.body["type"] == "/problems/knowledge-base-not-found"  # type: ignore[index]
    assert "rewrite_query" in json.dumps(rewritten.value.body)


def nested(depth: int) -> dict[str, Any]:
    leaf: dict[str, Any] = {"type": "eq", "key": "year", "value": 1}
    for _ in range(depth):
        leaf = {"type": "and", "filters": [leaf]}
    return leaf


@pytest.mark.parametrize(
    ("filters", "field"),
    [
        ({"type": "like", "key": "team", "value": "a"}, "filters.type"),
        ({"type": "eq", "key": "team"}, "filters"),
        ({"type": "eq", "key": "and", "value": []}, "filters"),
        ({"type": "eq", "key": "team", "value": "a", "more": 1}, "filters"),
        ({"type": "and", "filters": []}, "filters"),
        ({"type": "or", "filters": [{"type": "eq", "key": 1, "value": 1}]}, "filters.filters.0"),
        ({"type": "eq", "key": "colour", "value": 1}, "filters.colour"),
        (nested(5), "filters" + ".filters.0" * 5),
        ([], "filters"),
    ],
)
async def test_filters_of_another_shape_are_named(filters: object, field: str) -> None:
    _, parts = two_documents()
    answered = await parts.client.post("/v1/vector_stores/handbook/search", json={"query": "q", "filters": filters})

    assert answered.status_code == 422
    assert [error["field"] for error in answered.json()["errors"]] == [field]


async def test_another_tenants_store_is_not_there() -> None:
    _, parts = two_documents()
    parts.directory.held.append(KnowledgeBase("other", "theirs"))

    answered = await parts.client.post("/v1/vector_stores/theirs/search", json={"query": "q"})

    assert (answered.status_code, answered.json()["type"]) == (404, "/problems/knowledge-base-not-found")
    assert "other" in answered.json()["detail"]  # the caller's own base of that name
