"""Both APIs against their own OpenAPI documents: schemathesis makes up requests, right and wrong, the same each time.

Whatever comes: no server error, what the document says, and a problem document of a known type where it is no success.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import structlog
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation import GenerationMode

from runtime.web.problems import KINDS, MEDIA_TYPE
from schemas.records import ReceiptStage
from tests.unit.connectors.upload_api.world import ADMIN, upload_world
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex, candidate, manifest
from tests.unit.query_api.fakes import app_around

pytestmark = pytest.mark.slow

SAME_EACH_TIME = settings(
    max_examples=12,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
LEFT_OUT = (
    # A schema cannot say all that makes a request good (a knowledge base that exists, a file of a known type, a query
    # that is more than blanks): a good form may be refused. That it is refused with a problem, the others see.
    "positive_data_acceptance",
    # Ours is stricter: no status from 500 on at all, but the 503 of what is not configured.
    "not_a_server_error",
)
NOT_CONFIGURED = "/v1/login"
"""The app in memory has no secret for sessions, and says so with a 503."""


@contextmanager
def query_api(folder: Path) -> Iterator[tuple[FastAPI, str]]:
    index = FakeIndex([candidate("acme/handbook/leave", text="text")], [manifest("acme/handbook/leave", "c")])
    yield app_around(index, FakeEmbedder()).app, "tw_admin"


@contextmanager
def upload_api(folder: Path) -> Iterator[tuple[FastAPI, str]]:
    with asyncio.Runner() as runner:
        around = upload_world(folder, stream_limit_s=0.1)
        world = runner.run(around.__aenter__())
        # Whoever waits until it is searchable does not wait for long.
        world.log.readers.append(lambda _, sent: world.receipts.end(sent.position, ReceiptStage.INDEXED))
        try:
            yield world.app, ADMIN
        finally:
            runner.run(around.__aexit__(None, None, None))


APIS = {"query": query_api, "upload": upload_api}


@pytest.fixture
def quiet() -> Iterator[None]:
    """Thousands of lines of log tell nothing here."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.reset_defaults()


def is_a_known_problem(response: Any) -> None:
    """RFC 9457, one of ours, about this very status."""
    told = response.json()
    assert response.headers["content-type"][0] == MEDIA_TYPE, response.headers
    assert told["type"].removeprefix("/problems/") in KINDS
    assert (told["status"], told["title"]) == (
        response.status_code,
        KINDS[told["type"].removeprefix("/problems/")].title,
    )
    assert told["detail"]
    assert told["instance"]


@pytest.mark.parametrize("name", APIS)
def test_an_api_keeps_what_its_document_says_whatever_is_sent(name: str, tmp_path: Path, quiet: None) -> None:
    load_all_checks()
    excluded = [CHECKS.get_one(left_out) for left_out in LEFT_OUT]
    asked, refused = 0, set[int]()
    with APIS[name](tmp_path) as (app, key):
        operations = [found.ok() for found in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations()]
        for operation, mode in [(operation, mode) for operation in operations for mode in MODES]:

            def keeps(case: Any) -> None:
                nonlocal asked
                # Ours alone: one that is made up beside it would be refused, and rightly.
                case.headers = {k: v for k, v in (case.headers or {}).items() if k.lower() not in _CREDENTIALS}
                headers = {"Authorization": f"Bearer {key}"}
                response = case.call(headers=headers)
                asked += 1
                most = 503 if case.operation.path == NOT_CONFIGURED else 499
                assert response.status_code <= most, response.text
                if response.status_code >= 400:
                    refused.add(response.status_code)
                    is_a_known_problem(response)
                case.validate_response(response, headers=headers, excluded_checks=excluded)

            try:
                SAME_EACH_TIME(given(case=operation.as_strategy(generation_mode=mode))(keeps))()
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE, "nothing can be wrong about a route without parameters"

    assert asked > 10 * len(operations)
    assert {404, 422} <= refused, "nothing wrong was asked"


_CREDENTIALS = ("authorization", "x-api-key")


@pytest.mark.parametrize("name", APIS)
def test_every_route_says_which_methods_it_has(name: str, tmp_path: Path) -> None:
    """405 with Allow, as a problem, at each path of the document for each method that it does not have there."""
    with APIS[name](tmp_path) as (app, _):
        client = TestClient(app)
        document = client.get("/openapi.json").json()
        for path, methods in document["paths"].items():
            for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - {method.upper() for method in methods}:
                answered = client.request(method, path.replace("{", "").replace("}", ""))
                if answered.status_code == 404 or not answered.is_error:
                    continue  # another route takes it: /v1/documents/{id} has DELETE for whatever stands below
                if answered.status_code != 405:
                    assert answered.status_code in (401, 422), (method, path)
                    continue
                assert answered.json()["type"] == "/problems/method-not-allowed"
                assert answered.headers["Allow"], (method, path)
