"""What every route of both APIs gets for nothing: problems, identity, request ids, headers, counts, health."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from io import StringIO
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse

from runtime.access import SCOPES, Principal
from runtime.metrics import declare
from runtime.web import health, identity, problems
from runtime.web.body_guard import BodyGuard
from runtime.web.health import Check, NotHealthy
from runtime.web.problems import KINDS, Problem
from runtime.web.requests import RequestMiddleware
from tests.unit.query_api.fakes import NOW_MS, FakeDirectory, api_key

pytestmark = pytest.mark.usefixtures("log")
"""structlog's own way of showing a traceback takes seconds."""


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    size: int = 1


Ingester = Annotated[Principal, Depends(identity.require("ingest"))]


async def well() -> str:
    return "fine"


async def ill() -> str:
    raise NotHealthy("start it with `thalweg up`")


async def stuck() -> str:
    await asyncio.sleep(60)
    return "never"


async def broken() -> str:
    raise RuntimeError("hunter2")


def app_with(checks: list[Check] | None = None) -> FastAPI:
    app = FastAPI()
    metrics = declare(CollectorRegistry())

    @app.post("/things/{name}")
    async def make(name: str, body: Body, caller: identity.Caller) -> dict[str, Any]:
        return {"name": name, "size": body.size, "tenant": caller.tenant}

    @app.put("/things/{name}")
    async def put(name: str, caller: Ingester) -> dict[str, str]:
        return {"name": name, "subject": caller.subject}

    @app.get("/broken")
    async def fails() -> None:
        raise RuntimeError("hunter2")

    @app.get("/http/{status}")
    async def http(status: int) -> None:
        raise HTTPException(status)

    @app.get("/ours")
    async def ours() -> None:
        raise Problem("too-many-requests", "Slow down.", headers={"Retry-After": "3"}, extra={"limit": 5})

    @app.get("/torn")
    async def torn() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"first"
            raise RuntimeError("hunter2")

        return StreamingResponse(pieces())

    keys = [
        api_key("tw_admin", scopes=SCOPES),
        api_key("tw_query"),
        api_key("tw_late", expires_ms=NOW_MS),
        api_key("tw_off", active=False),
    ]
    app.include_router(health.router(checks or [], metrics.registry, version="1.2"))
    problems.install(app)
    app.state.directory = FakeDirectory(known=keys)
    identity.install(app, app.state.directory, lambda: NOW_MS)
    app.add_middleware(BodyGuard, limits={"*": 1000}, linger_s=0)
    app.add_middleware(RequestMiddleware, counter=metrics.http_requests)
    return app


def client_of(app: FastAPI, key: str | None = "tw_admin") -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("DELETE", "/things/a", 405, "method-not-allowed"),
        ("GET", "/broken", 500, "internal"),
        ("GET", "/http/413", 413, "too-large"),
        ("GET", "/http/415", 415, "unsupported-media-type"),
        ("GET", "/http/503", 503, "unavailable"),
        ("GET", "/http/418", 418, "malformed-request"),
        ("GET", "/problems/nonsense", 404, "not-found"),
    ],
)
async def test_every_error_is_a_problem_whose_type_can_be_followed(
    method: str, path: str, status: int, kind: str
) -> None:
    client = client_of(app_with())

    answered = await client.request(method, path)

    told = answered.json()
    assert answered.headers["Content-Type"] == "application/problem+json"
    assert told["type"] == f"/problems/{kind}"
    assert told["title"] == KINDS[kind].title
    assert answered.status_code == told["status"] == KINDS[kind].status or status == 418
    assert told["instance"] == f"urn:request:{answered.headers['X-Request-ID']}"
    page = await client.get(told["type"])
    assert page.status_code == 200
    assert KINDS[kind].title in page.text


async def test_an_unexpected_error_is_logged_and_tells_nothing(log: StringIO) -> None:
    answered = await client_of(app_with()).get("/broken", headers={"X-Request-ID": "me-1"})

    assert "hunter2" not in answered.text
    logged = [json.loads(line) for line in log.getvalue().splitlines()]
    (error,) = [line for line in logged if line["event"] == "unexpected_error"]
    assert (error["level"], error["request_id"]) == ("error", "me-1")
    assert "RuntimeError" in error["exception"]
    assert "hunter2" not in log.getvalue()


async def test_headers_and_members_of_a_problem_go_out_with_it() -> None:
    answered = await client_of(app_with()).get("/ours")

    assert (answered.status_code, answered.headers["Retry-After"], answered.json()["limit"]) == (429, "3", 5)
    assert answered.json()["retry_after"] == 3


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"size": 3}', ("validation-failed", "name", "is missing", "add it")),
        (b'{"name": "a", "sise": 3}', ("validation-failed", "sise", "is not a known field", "remove it")),
        (b'{"name": "a", "size": "x"}', ("validation-failed", "size", "valid integer", "/docs")),
        (b'{"name": ', ("malformed-request", "body", "is not valid JSON", "near character")),
        (b"[]", ("malformed-request", "body", "valid dictionary", "/docs")),
    ],
)
async def test_a_wrong_field_is_named_with_its_fix(body: bytes, wanted: tuple[str, str, str, str]) -> None:
    answered = await client_of(app_with()).post("/things/a", content=body, headers={"Content-Type": "application/json"})

    (error,) = answered.json()["errors"]
    kind, field, message, fix = wanted
    assert answered.json()["type"] == f"/problems/{kind}"
    assert error["field"] == field
    assert message in error["message"]
    assert fix in error["fix"]


@pytest.mark.parametrize("key", [None, "tw_stranger", "tw_late", "tw_off", "x" * 5000])
async def test_a_key_that_is_missing_wrong_expired_or_revoked_is_a_401(key: str | None) -> None:
    answered = await client_of(app_with(), key).post("/things/a", json={"name": "a"})

    assert answered.status_code == 401
    assert answered.headers["WWW-Authenticate"].startswith('Bearer realm="thalweg"')
    assert ("invalid_token" in answered.headers["WWW-Authenticate"]) is (key is not None)


@pytest.mark.parametrize("header", [{"Authorization": "Bearer tw_query"}, {"X-API-Key": "tw_query"}])
async def test_a_key_may_come_in_either_header(header: dict[str, str]) -> None:
    answered = await client_of(app_with(), None).post("/things/a", json={"name": "a"}, headers=header)

    assert answered.json() == {"name": "a", "size": 1, "tenant": "acme"}


async def test_a_scope_that_is_lacking_is_a_403_that_names_it() -> None:
    app = app_with()

    assert (await client_of(app, "tw_admin").put("/things/a")).json()["subject"] == "tw_admin"
    refused = await client_of(app, "tw_query").put("/things/a")
    assert (refused.status_code, refused.json()["scope"]) == (403, "ingest")


async def test_until_the_keys_are_read_an_unknown_one_is_not_called_wrong() -> None:
    app = app_with()
    app.state.directory.ready = False

    answered = await client_of(app, "tw_stranger").put("/things/a")

    assert (answered.status_code, answered.headers["Retry-After"]) == (503, "2")


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2:3/x@y", True), ("", False), ("a b", False), ("x" * 129, False), ("é", False)]
)
async def test_a_request_id_is_kept_if_it_is_harmless_else_made(given: str, kept: bool) -> None:
    answered = await client_of(app_with()).get("/health", headers=[(b"X-Request-ID", given.encode())])

    got = answered.headers["X-Request-ID"]
    assert (got == given) is kept
    assert len(got) >= 8


async def test_security_headers_are_on_every_answer() -> None:
    for path in ("/health", "/nowhere", "/broken"):
        headers = (await client_of(app_with()).get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"


async def test_requests_are_counted_by_route_template_and_known_method() -> None:
    client = client_of(app_with())
    await client.put("/things/a")
    await client.put("/things/b")
    await client.get("/nowhere")
    await client.request("BREW", "/things/a")

    told = (await client.get("/metrics")).text

    assert 'thalweg_http_requests_total{method="PUT",route="/things/{name}",status="200"} 2.0' in told
    assert 'thalweg_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in told
    assert 'method="other"' in told
    assert "BREW" not in told


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_refused_before_any_route(declared: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 500

    body: Any = b"x" * 1500 if declared else pieces()
    answered = await client_of(app_with(), None).post("/things/a", content=body)

    assert answered.status_code == 413
    assert answered.json()["type"] == "/problems/too-large"


async def test_the_access_log_has_no_query_string(log: StringIO) -> None:
    await client_of(app_with()).put("/things/a?secret=canary")

    assert "canary" not in log.getvalue()
    (line,) = [json.loads(item) for item in log.getvalue().splitlines()]
    assert (line["event"], line["path"], line["status"], line["subject"]) == ("request", "/things/a", 200, "tw_admin")
    assert line["request_id"]
    assert line["timestamp"]


async def test_health_tells_all_and_stays_200_while_ready_names_what_is_missing() -> None:
    checks = [Check("a", well), Check("b", ill), Check("c", stuck, timeout_s=0.05), Check("d", broken)]
    client = client_of(app_with(checks), None)

    alive, ready = await client.get("/health"), await client.get("/ready")

    assert alive.status_code == 200
    assert alive.json()["status"] == "unavailable"
    assert alive.json()["uptime_s"] >= 0
    assert {name: found["ok"] for name, found in alive.json()["dependencies"].items()} == {
        "a": True,
        "b": False,
        "c": False,
        "d": False,
    }
    assert ready.status_code == 503
    assert set(ready.json()["missing"]) == {"b", "c", "d"}
    assert "thalweg up" in ready.json()["missing"]["b"]
    assert "hunter2" not in alive.text + ready.text


async def test_what_is_not_required_degrades_and_does_not_unready() -> None:
    client = client_of(app_with([Check("a", well), Check("kafka", ill, required=False)]), None)

    ready = await client.get("/ready")

    assert (ready.status_code, ready.json()) == (200, {"status": "degraded", "degraded": ["kafka"]})


async def test_an_answer_that_tears_is_broken_off_and_not_mended() -> None:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app_with()), base_url="http://test")

    with pytest.raises(RuntimeError):
        await client.get("/torn")


def test_metrics_are_declared_once_on_a_registry_and_by_the_promised_names() -> None:
    registry = CollectorRegistry()
    declare(registry)

    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()}

    assert names >= {
        f"thalweg_{name}"
        for name in (
            *("queue_depth", "queue_seconds", "freshness_seconds", "documents_total", "chunks_total"),
            *("embedding_calls_total", "embedding_texts_total", "embedding_tokens_total", "cost_dollars_total"),
            *("query_duration_seconds", "retrieval_duration_seconds", "generation_duration_seconds", "query_results"),
            *("cache_requests_total", "dead_letters_total", "index_objects", "http_requests_total"),
        )
    }
    with pytest.raises(ValueError, match="Duplicated"):
        declare(registry)
