"""Every route of both APIs, as its app has it: closed without credentials, and to fields that are not the caller's."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from runtime.web.audit import announced
from tests.security.surface import OPEN, SNAPSHOT, Api, both_apis, described, filled

GARBAGE = {
    "none": {},
    "empty bearer": {"Authorization": "Bearer "},
    "garbage bearer": {"Authorization": "Bearer tw_" + "x" * 43},
    "garbage key": {"X-API-Key": "tw_" + "x" * 43},
    "a key in quotes": {"X-API-Key": '"tw_admin"'},
    "a longer key": {"X-API-Key": "tw_admin."},
    "basic": {"Authorization": "Basic " + base64.b64encode(b"admin:admin").decode()},
    "64 KB": {"Authorization": "Bearer " + "x" * 65_536},
    "three dots": {"Authorization": "Bearer a.b.c"},
    "no algorithm": {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiIsInRlbmFudCI6ImFjbWUifQ."},
    "not latin": {"X-API-Key": "\xff\xfe"},
}
BODY = json.dumps({"query": "canary", "text": "canary", "knowledge_base": "shop"})
FORBIDDEN = ("tenant", "owner", "version", "vector", "position", "access_override", "subject", "scopes", "is_admin")

TAKEN = {"login": {"tenant"}, "api-keys": {"scopes", "subject"}, "users": {"scopes", "subject"}}
"""Where such a field is what the request is about: who logs in says where, an administrator says for whom a key is."""


@pytest.fixture
async def apis() -> AsyncIterator[list[Api]]:
    async with both_apis() as made:
        for api in made:
            api.client.headers.pop("Authorization", None)
        yield made


async def test_the_routes_are_those_of_the_snapshot() -> None:
    """Another route is another way in. Look at it, then `python -m tests.security.surface > .../routes.txt`."""
    assert await described() == SNAPSHOT.read_text(encoding="utf-8")


async def test_no_route_reads_a_body_before_it_knows_who_sends_it(apis: list[Api]) -> None:
    read: list[str] = []

    async def body(name: str) -> AsyncIterator[bytes]:
        read.append(name)
        yield BODY.encode()

    for api in apis:
        asked = [(method, path) for method, path in api.guarded() if method in ("POST", "PUT")]
        assert len(asked) > 3
        for method, path in asked:
            # Who waits for our word before it sends is not read on after the answer either.
            headers = {"Content-Type": "application/json", "Expect": "100-continue", "X-API-Key": "tw_nobody"}
            answered = await api.client.request(method, path, content=body(f"{method} {path}"), headers=headers)
            assert answered.status_code == 401
    assert read == []


@pytest.mark.parametrize("sent", GARBAGE)
async def test_no_route_is_open_to_garbage_and_all_refuse_it_alike(apis: list[Api], sent: str) -> None:
    """One status and one body for each sort of garbage, whatever route or method: nothing tells what is behind."""
    found = {}
    for api in apis:
        assert len(api.guarded()) > 3
        for method, path in api.guarded():
            headers = {"Content-Type": "application/json", **GARBAGE[sent]}
            encoded = {name: value.encode("latin-1") for name, value in headers.items()}
            answered = await api.client.request(method, path, content=BODY, headers=encoded)
            told = answered.json()
            assert told.pop("instance").startswith("urn:request:")
            assert answered.status_code == 401, f"{method} {path}"
            assert answered.headers["WWW-Authenticate"].startswith("Bearer")
            assert "canary" not in answered.text
            found.setdefault(json.dumps(told, sort_keys=True), []).append(f"{method} {path}")
    assert len(found) == 1, found


async def test_what_is_open_tells_nothing_that_is_anybodys(apis: list[Api]) -> None:
    for api in apis:
        for method, path in api.routes():
            if path in OPEN and method == "GET":
                answered = await api.client.request(method, filled(path))
                assert answered.status_code in (200, 404)
                for secret in ("tw_admin", "acme", "handbook"):
                    assert secret not in answered.text, f"{method} {path}"


async def test_what_changes_rights_or_configuration_is_refused_while_the_audit_is_away(apis: list[Api]) -> None:
    for api in apis:
        api.audit.away = True
        for method, path in api.routes():
            if announced(method, path):
                answered = await api.client.request(
                    method,
                    filled(path),
                    content=BODY,
                    headers={"X-API-Key": "tw_admin", "Content-Type": "application/json"},
                )
                assert (answered.status_code, "audit" in answered.text) == (503, True), f"{method} {path}"


def _objects(
    schema: dict[str, Any], components: dict[str, Any], seen: set[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object schema below this one, with a name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in seen:
            return
        seen.add(name)
        yield from _objects({**components[name], "title": name}, components, seen)
        return
    if schema.get("type") == "object" or "properties" in schema:
        yield schema.get("title", "?"), schema
    for inner in (*schema.get("properties", {}).values(), *schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _objects(inner, components, seen)
    if "items" in schema:
        yield from _objects(schema["items"], components, seen)


async def test_no_body_takes_a_field_that_is_not_declared_nor_one_that_is_ours(apis: list[Api]) -> None:
    """Mass assignment: tenant, owner, version, vector and the like are no fields, and unknown fields are refused."""
    looked = 0
    for api in apis:
        described_by = (await api.client.get("/openapi.json")).json()
        components = described_by.get("components", {}).get("schemas", {})
        for path, operations in described_by["paths"].items():
            for method, operation in operations.items():
                body = operation.get("requestBody", {}).get("content", {}).get("application/json")
                if body is None or "schema" not in body:
                    continue  # read by the route itself, which checks it field by field
                for name, schema in _objects(body["schema"], components, set()):
                    if "properties" not in schema:
                        continue  # free-form by design: metadata, filters
                    looked += 1
                    assert schema.get("additionalProperties") is False, f"{method} {path}: {name}"
                    taken = TAKEN.get(path.split("/")[2], set())
                    assert not (set(FORBIDDEN) - taken) & set(schema["properties"]), f"{method} {path}: {name}"
    assert looked > 3


@pytest.mark.parametrize("field", FORBIDDEN)
async def test_a_field_that_is_ours_is_refused_by_name(apis: list[Api], field: str) -> None:
    query, upload = apis
    key = {"X-API-Key": "tw_admin"}
    body = {"text": "x", "knowledge_base": "shop", field: "other"}
    answers = [
        await query.client.post("/v1/search", json={"query": "x", field: "other"}, headers=key),
        await query.client.post("/v1/query", json={"query": "x", field: "other"}, headers=key),
        await upload.client.put("/v1/documents/a", json=body, headers=key),
        await upload.client.post("/v1/documents", json={"documents": [{"id": "a", **body}]}, headers=key),
        await upload.client.post(
            "/v1/uploads",
            files={"file": ("a.txt", b"text of a file")},
            data={"knowledge_base": "shop", field: "other"},
            headers=key,
        ),
    ]
    for answered in answers:
        assert answered.status_code == 422
        assert any(error["field"].endswith(field) for error in answered.json()["errors"])


async def test_limits_of_a_search_are_refused_with_the_field_that_is_too_large(apis: list[Api]) -> None:
    query, _ = apis
    deep: dict[str, Any] = {"year": 1}
    for _level in range(50):
        deep = {"and": [deep]}
    for body, field in (
        ({"query": "x" * 1001}, "query"),
        ({"query": "x", "limit": 10**6}, "limit"),
        ({"query": "x", "filters": deep}, "filters"),
        ({"query": "x", "filters": {"year": {"in": list(range(5000))}}}, "filters"),
        ({"query": "x", "doc_ids": ["a"] * 101}, "doc_ids"),
        ({"query": "x", "wait_ms": 10**9}, "wait_ms"),
    ):
        answered = await query.client.post("/v1/search", json=body, headers={"X-API-Key": "tw_admin"})
        assert answered.status_code == 422
        assert any(error["field"].startswith(field) for error in answered.json()["errors"])
    nested = b'{"query":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    answered = await query.client.post(
        "/v1/search", content=nested, headers={"X-API-Key": "tw_admin", "Content-Type": "application/json"}
    )
    assert answered.status_code in (400, 422)
    huge = await query.client.post("/v1/search", content=b"x" * 1_048_577, headers={"X-API-Key": "tw_admin"})
    assert huge.status_code == 413


async def test_manuals_load_nothing_and_no_debug_page_is_served(apis: list[Api]) -> None:
    for api in apis:
        page = await api.client.get("/docs")
        assert page.status_code == 200
        assert "script" not in page.text
        assert "unsafe" not in page.headers["Content-Security-Policy"]
        assert not api.app.debug
        for path in ("/redoc", "/docs/oauth2-redirect", "/debug", "/.env", "/admin"):
            assert (await api.client.get(path)).status_code == 404
