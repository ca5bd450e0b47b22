"""Streams through a real server and real sockets: nothing is held back, and hanging up reaches the model."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from httpx_sse import connect_sse
from prometheus_client import CollectorRegistry

from query_api.answering.model_http import answering_client
from query_api.answering.select import answerer_from
from runtime.metrics import declare
from runtime.settings_answering import Answer as AnswerSettings
from runtime.settings_answering import Prices
from runtime.spending import Spending
from tests.stand_ins.model_server import ModelServer
from tests.unit.query_api.routes.test_queries import with_one_hit

QUESTION = {"query": "how long is leave?"}
KEY = {"Authorization": "Bearer tw_admin"}


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The app on a free port, as `serve` runs it."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, access_log=False))
    running = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    running.start()
    deadline = time.monotonic() + 20
    while not (server.started and server.servers):
        assert running.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    running.join(20)
    assert not running.is_alive()


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
def url(model: ModelServer) -> Iterator[str]:
    settings = AnswerSettings(provider="openai", url=model.openai_url, model="m", timeout_s=30)
    answerer = answerer_from(settings, answering_client(30), Spending(Prices(), declare(CollectorRegistry())))
    with served(with_one_hit(answerer=answerer).app) as at:
        yield at


def test_each_word_arrives_when_it_is_written(model: ModelServer, url: str) -> None:
    model.misbehave("paced", seconds=0.1)
    model.answer_with("one two three four five six seven eight nine ten")

    with (
        httpx.Client(timeout=20, headers=KEY) as client,
        connect_sse(client, "POST", f"{url}/v1/query", json=QUESTION) as source,
    ):
        arrived = [(event.event, time.monotonic()) for event in source.iter_sse()]

    assert [name for name, _ in arrived] == ["hits", *["delta"] * 10, "done"]
    assert arrived[-1][1] - arrived[1][1] > 0.5, "they did not come all at once"


def test_hanging_up_reaches_the_model_and_the_next_question_is_answered(model: ModelServer, url: str) -> None:
    model.misbehave("paced", seconds=0.05)
    model.answer_with("word " * 2000)
    with (
        httpx.Client(timeout=20, headers=KEY) as client,
        connect_sse(client, "POST", f"{url}/v1/query", json=QUESTION) as source,
    ):
        for event in source.iter_sse():
            if event.event == "delta":
                break

    assert model.state.hung_up.wait(10)

    model.reset()
    with (
        httpx.Client(timeout=20, headers=KEY) as client,
        connect_sse(client, "POST", f"{url}/v1/query", json=QUESTION) as source,
    ):
        last = list(source.iter_sse())[-1]
    assert (last.event, json.loads(last.data)["model"]) == ("done", "m")
