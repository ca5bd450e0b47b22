"""What browsers are told: headers on every answer, pages of other origins kept out, and a manual that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from runtime.metrics import declare
from runtime.settings import SettingsError, load_settings
from runtime.web import docs_page, problems
from runtime.web.body_guard import BodyGuard
from runtime.web.docs_page import POLICY, render
from runtime.web.requests import RequestMiddleware

OURS, FOREIGN = "https://app.example.com", "https://evil.example.com"


def client_of(origins: tuple[str, ...] = ()) -> httpx.AsyncClient:
    app = FastAPI(docs_url=None)
    problems.install(app)
    docs_page.install(app)

    @app.post("/v1/things")
    async def things() -> dict[str, str]:
        return {"a": "b"}

    @app.get("/v1/broken")
    async def broken() -> None:
        raise RuntimeError("hunter2")

    metrics = declare(CollectorRegistry())
    app.add_middleware(BodyGuard, limits={"*": 100}, linger_s=0)
    app.add_middleware(RequestMiddleware, counter=metrics.http_requests, origins=origins)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def preflight(origin: str) -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }


async def test_by_default_no_page_of_any_origin_may_call() -> None:
    client = client_of()

    asked = await client.options("/v1/things", headers=preflight(OURS))
    called = await client.post("/v1/things", headers={"Origin": OURS})

    assert not [name for name in (*asked.headers, *called.headers) if name.startswith("access-control-")]


async def test_a_page_of_a_named_origin_may_call_and_another_may_not() -> None:
    client = client_of((OURS,))

    asked = await client.options("/v1/things", headers=preflight(OURS))
    called = await client.post("/v1/things", headers={"Origin": OURS})
    foreign = await client.options("/v1/things", headers=preflight(FOREIGN))
    called_anyway = await client.post("/v1/things", headers={"Origin": FOREIGN})

    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == called.headers["Access-Control-Allow-Origin"] == OURS
    assert "authorization" in asked.headers["Access-Control-Allow-Headers"].lower()
    assert foreign.status_code == 400
    assert "Access-Control-Allow-Origin" not in foreign.headers
    assert "Access-Control-Allow-Origin" not in called_anyway.headers
    for answered in (asked, called, foreign, called_anyway):
        assert "Access-Control-Allow-Credentials" not in answered.headers
        assert answered.headers["Vary"].startswith("Origin")
        assert answered.headers["X-Request-ID"]


@pytest.mark.parametrize(("method", "path", "size"), [("GET", "/v1/broken", 0), ("POST", "/v1/things", 101)])
async def test_a_page_that_may_call_sees_the_problems_too(method: str, path: str, size: int) -> None:
    answered = await client_of((OURS,)).request(method, path, headers={"Origin": OURS}, content=b"x" * size)

    assert answered.status_code in (413, 500)
    assert answered.headers["Content-Type"] == "application/problem+json"
    assert answered.headers["Access-Control-Allow-Origin"] == OURS


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/v1/things", 200), ("GET", "/nowhere", 404), ("GET", "/v1/broken", 500), ("GET", "/docs", 200)],
)
async def test_security_headers_are_on_every_answer(method: str, path: str, status: int) -> None:
    answered = await client_of().request(method, path)

    assert answered.status_code == status
    assert answered.headers["X-Content-Type-Options"] == "nosniff"
    assert answered.headers["X-Frame-Options"] == "DENY"
    assert answered.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answered.headers["Referrer-Policy"] == "no-referrer"
    assert answered.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in answered.headers["Content-Security-Policy"]
    assert "unsafe" not in answered.headers["Content-Security-Policy"]


def test_the_manual_loads_nothing_and_its_policy_names_its_style() -> None:
    page = render(
        {
            "info": {"title": "T", "version": "1", "summary": "<script>alert(1)</script>"},
            "paths": {
                "/v1/<b>": {
                    "post": {
                        "summary": "</details><img src=x onerror=alert(1)>",
                        "requestBody": {
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}}
                        },
                    }
                }
            },
            "components": {
                "schemas": {
                    "Body": {
                        "required": ["a"],
                        "properties": {
                            "a": {"type": "string", "description": "'\"><script>", "default": "<i>"},
                            "b": {"type": "array", "items": {"properties": {"c": {"enum": ["<u>"]}}}},
                        },
                    }
                }
            },
        }
    )

    assert "<script" not in page
    assert "<img" not in page
    assert "<i>" not in page
    assert "<u>" not in page
    assert "b[].c" in page
    assert not re.findall(r"(?:src|href|url)\W{0,2}(?:https?:)?//", page)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in POLICY
    assert " style=" not in page


@pytest.mark.parametrize("given", ["*", "https://*.example.com", "example.com", "https://a.example/path", "null"])
def test_what_is_no_origin_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(SettingsError, match=r"web\.cors_origins"):
        load_settings({"THALWEG_HOME": str(tmp_path), "THALWEG_WEB__CORS_ORIGINS": given}, folder=tmp_path)


@pytest.mark.parametrize(
    ("given", "meant"), [("", ()), (OURS, (OURS,)), (f"{OURS}, http://localhost:5173", (OURS, "http://localhost:5173"))]
)
def test_origins_come_with_commas_between(tmp_path: Path, given: str, meant: tuple[Any, ...]) -> None:
    settings = load_settings({"THALWEG_HOME": str(tmp_path), "THALWEG_WEB__CORS_ORIGINS": given}, folder=tmp_path)

    assert settings.web.cors_origins == meant
