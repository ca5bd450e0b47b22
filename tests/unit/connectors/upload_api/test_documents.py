from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from runtime.producer import DeliveryFailed
from schemas.records import Event
from tests.unit.connectors.upload_api.world import ADMIN, EDITOR, QUERY, VIEWER, World, upload_world

ONE = {"text": "hello", "knowledge_base": "shop"}
CLOUD = {"specversion": "1.0", "id": "e1", "source": "//crm", "type": "article.changed", "data": ONE}


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with upload_world(tmp_path) as made:
        yield made


async def send(
    world: World, method: str, path: str, body: Any = None, *, key: str | None = EDITOR, kind: str = "application/json"
) -> httpx.Response:
    headers = {"Content-Type": kind, **({"X-API-Key": key} if key else {})}
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return await world.client.request(method, path, content=content, headers=headers)


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    return body


async def test_one_document_is_put_under_its_id_slashes_and_all(world: World) -> None:
    body = {**ONE, "title": "T", "metadata": {"n": 1, "tags": ["a"]}, "access": []}
    answer = await send(world, "PUT", "/v1/documents/guides/setup.md", body)
    assert (answer.status_code, answer.json()) == (
        202,
        {"document_id": "guides/setup.md", "position": "events/0@0"},
    )
    assert world.log.events == [
        Event(
            "acme", "shop", "guides/setup.md", text="hello", title="T", metadata={"n": 1, "tags": ["a"]}, access=[],
            source="api", request_id=answer.headers["x-request-id"],
        )
    ]  # fmt: skip


async def test_many_documents_are_answered_in_order(world: World) -> None:
    documents = [{"id": str(number), **ONE} for number in range(3)]
    answer = await send(world, "POST", "/v1/documents", {"documents": documents})
    assert answer.status_code == 202
    assert answer.json()["documents"] == [
        {"document_id": str(number), "position": f"events/0@{number}"} for number in range(3)
    ]
    assert [event.id for event in world.log.events] == ["0", "1", "2"]


async def test_one_wrong_document_of_many_publishes_none(world: World) -> None:
    documents = [{"id": "1", **ONE}, {"id": "2", "knowledge_base": "shop"}]
    body = problem(await send(world, "POST", "/v1/documents", {"documents": documents}), 422)
    assert body["errors"] == [{"field": "documents.1.text", "message": "is missing", "fix": "add it"}]
    mixed = [{"id": "1", **ONE}, {"id": "2", **ONE, "knowledge_base": "secret"}]
    problem(await send(world, "POST", "/v1/documents", {"documents": mixed}), 404)
    assert world.log.records == []


async def test_a_document_is_removed(world: World) -> None:
    answer = await send(world, "DELETE", "/v1/documents/a/b?knowledge_base=shop")
    assert (answer.status_code, answer.json()["position"]) == (202, "events/0@0")
    (event,) = world.log.events
    assert (event.id, event.delete, event.text) == ("a/b", True, None)
    body = problem(await send(world, "DELETE", "/v1/documents/a"), 422)
    assert body["errors"][0]["field"] == "knowledge_base"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tenant": "other"}, "tenant"),
        ({"text": 5}, "text"),
        ({"text": "\ud800"}, "text"),
        ({"metadata": {"n": 10**30}}, "metadata"),
        ({"content_type": "text/html"}, "content_type"),
        ({"access": "bob"}, "access"),
    ],
)
async def test_a_wrong_field_is_named(world: World, change: dict[str, Any], field: str) -> None:
    body = problem(await send(world, "PUT", "/v1/documents/1", {**ONE, **change}), 422)
    assert body["errors"][0]["field"].startswith(field)
    assert world.log.records == []


async def test_a_body_over_the_limit_is_refused_while_it_comes(world: World) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1_000_000

    headers = {"X-API-Key": EDITOR, "Content-Type": "application/json"}
    answer = await world.client.put("/v1/documents/1", content=endless(), headers=headers)
    assert problem(answer, 413)["type"] == "/problems/too-large"


async def test_rights_are_those_of_uploads(world: World) -> None:
    for key, status in ((None, 401), ("tw_none", 401), (QUERY, 403), (VIEWER, 403)):
        for method, path, body in (
            ("PUT", "/v1/documents/1", ONE),
            ("POST", "/v1/documents", {"documents": [{"id": "1", **ONE}]}),
            ("DELETE", "/v1/documents/1?knowledge_base=shop", None),
        ):
            problem(await send(world, method, path, body, key=key), status)
        problem(await send(world, "POST", "/v1/events", CLOUD, key=key, kind="application/cloudevents+json"), status)
    assert world.log.records == []
    assert (await send(world, "PUT", "/v1/documents/1", {**ONE, "knowledge_base": "new"}, key=ADMIN)).status_code == 202


async def test_kafka_being_away_is_told_as_such(world: World) -> None:
    world.log.failure = DeliveryFailed("events: timed out", retriable=True)
    assert problem(await send(world, "PUT", "/v1/documents/1", ONE), 503)["type"] == "/problems/unavailable"
    world.log.failure = DeliveryFailed("events: too large", retriable=False)
    assert problem(await send(world, "PUT", "/v1/documents/1", ONE), 413)["type"] == "/problems/too-large"


async def test_a_cloud_event_is_a_document(world: World) -> None:
    answer = await send(world, "POST", "/v1/events", CLOUD, kind="application/cloudevents+json; charset=utf-8")
    assert answer.status_code == 202
    assert answer.json() == {"events": [{"id": "e1", "document_id": "e1", "position": "events/0@0"}]}
    assert (world.log.events[0].source, world.log.events[0].text) == ("//crm", "hello")


async def test_the_document_is_named_by_data_then_subject_then_id(world: World) -> None:
    batch = [
        CLOUD,
        {**CLOUD, "subject": "s"},
        {**CLOUD, "subject": "s", "data": {**ONE, "id": "d"}},
        {**CLOUD, "subject": "gone", "type": "article.deleted", "data": {"knowledge_base": "shop"}},
    ]
    answer = await send(world, "POST", "/v1/events", batch, kind="application/cloudevents-batch+json")
    assert answer.status_code == 202
    assert [(event.id, event.delete) for event in world.log.events] == [
        *(("e1", False), ("s", False), ("d", False), ("gone", True)),
    ]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({**CLOUD, "specversion": "0.3"}, "specversion"),
        ({**CLOUD, "id": ""}, "id"),
        ({**CLOUD, "source": None}, "source"),
        ({**CLOUD, "data": "text"}, "data"),
        ({**CLOUD, "data": {"knowledge_base": "shop"}}, "data"),
        ({**CLOUD, "data": {"text": "x"}}, "data.knowledge_base"),
        ({**CLOUD, "data": {**ONE, "tenant": "x"}}, "data.tenant"),
        ({**CLOUD, "subject": 5}, "subject"),
        ({**CLOUD, "subject": "a\u202eb"}, "subject"),
        ({**CLOUD, "source": "two words"}, "source"),
        ({**CLOUD, "source": "crm\n"}, "source"),
        ({**CLOUD, "source": "//crm/%zz"}, "source"),
        ({**CLOUD, "source": "//cr\u00fcm"}, "source"),
        ({**CLOUD, "source": "/" + "x" * 500}, "source"),
        ({**CLOUD, "type": "a\x00"}, "type"),
        ({**CLOUD, "time": "yesterday"}, "time"),
        ({**CLOUD, "time": "2026-01-31T09:00:00"}, "time"),
        ({**CLOUD, "datacontenttype": "text/xml"}, "datacontenttype"),
        ({**CLOUD, "data_base64": "eA=="}, "data_base64"),
    ],
)
async def test_a_wrong_cloud_event_is_named_by_its_attribute(world: World, event: dict[str, Any], field: str) -> None:
    body = problem(await send(world, "POST", "/v1/events", event, kind="application/cloudevents+json"), 422)
    assert body["errors"][0]["field"].startswith(field)
    batch = problem(
        await send(world, "POST", "/v1/events", [CLOUD, event], kind="application/cloudevents-batch+json"), 422
    )
    assert batch["errors"][0]["field"].startswith(f"1.{field}")
    assert world.log.records == []


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", CLOUD, 415),
        ("application/cloudevents+json", b"[" * 100_000, 400),
        ("application/cloudevents+json", b"{", 400),
        ("application/cloudevents+json", [CLOUD], 400),
        ("application/cloudevents-batch+json", CLOUD, 400),
        ("application/cloudevents-batch+json", [], 422),
        ("application/cloudevents-batch+json", [1], 400),
    ],
)
async def test_what_is_no_cloud_event_is_refused(world: World, kind: str, body: Any, status: int) -> None:
    problem(await send(world, "POST", "/v1/events", body, kind=kind), status)


BINARY = {"ce-specversion": "1.0", "ce-id": "e1", "ce-source": "//crm", "ce-type": "article.changed"}


async def binary(world: World, headers: dict[str, str], body: bytes, kind: str = "application/json") -> httpx.Response:
    sent = {"X-API-Key": EDITOR, **({"Content-Type": kind} if kind else {}), **headers}
    return await world.client.post("/v1/events", content=body, headers=sent)


async def test_in_binary_mode_the_attributes_are_headers(world: World) -> None:
    headers = {**BINARY, "ce-subject": "caf%C3%A9%201", "ce-time": "2026-01-31T09:00:00Z"}
    answer = await binary(world, headers, json.dumps(ONE).encode())
    assert answer.json() == {"events": [{"id": "e1", "document_id": "caf\u00e9 1", "position": "events/0@0"}]}
    assert (world.log.events[0].source, world.log.events[0].text) == ("//crm", "hello")


async def test_in_binary_mode_the_same_is_refused_as_in_the_others(world: World) -> None:
    body = json.dumps(ONE).encode()
    wrong = problem(await binary(world, {**BINARY, "ce-source": "two words"}, body), 422)
    assert wrong["errors"][0]["field"] == "source"
    gone = problem(await binary(world, {name: text for name, text in BINARY.items() if name != "ce-type"}, body), 422)
    assert gone["errors"][0]["field"] == "type"
    assert problem(await binary(world, BINARY, b"", kind=""), 422)["errors"][0]["field"] == "data"
    problem(await binary(world, BINARY, b"{"), 400)
    problem(await binary(world, BINARY, b"<a/>", kind="text/xml"), 415)
    assert world.log.records == []


async def test_openapi_names_the_form_of_an_upload(world: World) -> None:
    described = (await world.client.get("/openapi.json")).json()
    form = described["paths"]["/v1/uploads"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["file", "knowledge_base"]
    assert set(described["paths"]) == {
        *("/v1/uploads", "/v1/uploads/{upload_id}", "/v1/uploads/{upload_id}/events"),
        *("/v1/documents", "/v1/documents/{document_id}", "/v1/events", "/health", "/ready", "/metrics"),
    }
