"""What a request to the query API may have at most: each bound is reached, and one more is refused with a problem."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from query_api.app import MOST_BODY_BYTES, MOST_LOGIN_BYTES
from query_api.bootstrap import places, served_as
from query_api.retrieval.filters import DEEPEST, MOST_TESTS, MOST_VALUES
from runtime.settings import load_settings
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex
from tests.unit.query_api.fakes import app_around


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"year": 1}
    for _ in range(depth - 1):
        found = {"and": [found]}
    return found


def search(**body: Any) -> dict[str, Any]:
    return {"query": "q", **body}


@pytest.mark.parametrize(
    ("most", "more"),
    [
        (search(query="x" * 1000), search(query="x" * 1001)),
        (search(limit=100), search(limit=101)),
        (search(filters=nested(DEEPEST)), search(filters=nested(DEEPEST + 1))),
        (
            search(filters={"or": [{"year": at} for at in range(MOST_TESTS)]}),
            search(filters={"or": [{"year": at} for at in range(MOST_TESTS + 1)]}),
        ),
        (
            search(filters={"year": {"in": list(range(MOST_VALUES))}}),
            search(filters={"year": {"in": list(range(MOST_VALUES + 1))}}),
        ),
        (search(doc_ids=["d"] * 100), search(doc_ids=["d"] * 101)),
        (search(knowledge_bases=["handbook"] * 100), search(knowledge_bases=["handbook"] * 101)),
        (search(neighbours=3), search(neighbours=4)),
    ],
    ids=["query", "limit", "depth", "comparisons", "values", "doc_ids", "bases", "neighbours"],
)
async def test_a_bound_of_a_search_is_reached_and_not_passed(most: dict[str, Any], more: dict[str, Any]) -> None:
    client = app_around(FakeIndex(), FakeEmbedder()).client

    assert (await client.post("/v1/search", json=most)).status_code == 200
    refused = await client.post("/v1/search", json=more)
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/validation-failed")
    assert refused.json()["errors"][0]["fix"]


@pytest.mark.parametrize("name", ["offset=-1", "limit=0", "limit=1001"])
async def test_a_page_of_chunks_is_bounded(name: str) -> None:
    answered = await app_around(FakeIndex(), FakeEmbedder()).client.get(f"/v1/documents/d?{name}")

    assert answered.status_code == 422


@pytest.mark.parametrize("opening", ['{"query": "q", "filters": {"and": [', "[", '{"a":'])
@pytest.mark.parametrize("path", ["/v1/search", "/v1/query/batch", "/v1/vector_stores/handbook/search"])
async def test_json_nested_without_end_is_a_mistake_and_no_server_error(path: str, opening: str) -> None:
    answered = await app_around(FakeIndex(), FakeEmbedder()).client.post(
        path, content=opening * 20_000, headers={"Content-Type": "application/json"}
    )

    assert answered.status_code in (400, 422)
    assert answered.json()["type"] in ("/problems/malformed-request", "/problems/validation-failed")


async def test_a_body_is_bounded_whether_its_length_is_said_or_not() -> None:
    client = app_around(FakeIndex(), FakeEmbedder()).client
    body = b'{"query": "q"}'.ljust(MOST_BODY_BYTES)

    async def pieces() -> Any:
        for start in range(0, len(body) + 1, 100_000):
            yield (body + b" ")[start : start + 100_000]

    kind = {"Content-Type": "application/json"}
    assert (await client.post("/v1/search", content=body, headers=kind)).status_code == 200
    for longer in (body + b" ", pieces()):
        answered = await client.post("/v1/search", content=longer, headers=kind)
        assert (answered.status_code, answered.json()["type"]) == (413, "/problems/too-large")


async def test_a_body_that_does_not_come_is_given_up() -> None:
    app = app_around(FakeIndex(), FakeEmbedder(), idle_s=0.05).app
    sent: list[Any] = []

    async def never() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", b"Bearer tw_admin"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/search", "headers": headers, "query_string": b""}
    async with asyncio.timeout(5):
        await app(scope, never, send)

    assert sent[0]["status"] == 408


async def test_who_is_not_known_yet_sends_a_name_and_a_password_and_no_more() -> None:
    client = app_around(FakeIndex(), FakeEmbedder()).client
    body = b'{"username": "ann", "password": "wrong"}'
    kind = {"Content-Type": "application/json"}

    tried = await client.post("/v1/login", content=body.ljust(MOST_LOGIN_BYTES), headers=kind)
    refused = await client.post("/v1/login", content=body.ljust(MOST_LOGIN_BYTES + 1), headers=kind)

    assert (tried.status_code, tried.json()["type"]) == (503, "/problems/unavailable")  # nobody logs in here
    assert int(tried.headers["retry-after"]) > 0
    assert (refused.status_code, refused.json()["type"]) == (413, "/problems/too-large")


def test_a_head_is_bounded() -> None:
    """By the server in front of the app: 64 KiB, as a problem."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = app_around(FakeIndex(), FakeEmbedder()).app
    config = served_as(app, "127.0.0.1", 0)
    config.lifespan = "off"
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        with socket.create_connection(listening.getsockname()[:2], timeout=10) as link:
            link.sendall(b"GET /health HTTP/1.1\r\nHost: here\r\nX-Long: " + b"x" * 70_000)
            answered = b""
            while piece := link.recv(65_536):
                answered += piece
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()

    assert answered.startswith(b"HTTP/1.1 400")
    assert b"/problems/malformed-request" in answered


REMOTE = {"THALWEG_EMBEDDING__PROVIDER": "cohere", "THALWEG_EMBEDDING__API_KEY": "k"}


@pytest.mark.parametrize(
    ("processors", "given", "expected"),
    [
        (None, {}, 2),
        (1, {}, 2),
        (2, {}, 2),
        (6, {}, 6),
        (64, {}, 8),
        (64, {"THALWEG_QUERY__AT_ONCE": "5"}, 5),
        (2, {"THALWEG_QUERY__AT_ONCE": "20"}, 20),
        (2, REMOTE, 8),
        (2, {**REMOTE, "THALWEG_QUERY__AT_ONCE": "1"}, 1),
    ],
)
def test_no_more_searches_run_at_once_than_are_served_sooner_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processors: int | None, given: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)

    assert places(load_settings(given, folder=tmp_path)) == expected
