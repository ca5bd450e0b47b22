"""Requests in the audit: all of /v1, rights and configuration before they change, floods of refusals summed up."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry

from runtime.access import SCOPES, Principal
from runtime.metrics import declare
from runtime.web import audit, identity, problems
from runtime.web.audit import Refusals, announced, kind_of
from runtime.web.problems import Problem
from runtime.web.requests import RequestMiddleware
from schemas.records import AuditEntry
from tests.support.fake_audit import FakeAudit
from tests.unit.query_api.fakes import FakeDirectory, api_key

Admin = Annotated[Principal, Depends(identity.require("admin"))]


class World:
    """An app with one route of each sort, and its audit."""

    def __init__(self) -> None:
        self.app, self.audit, self.changed = FastAPI(), FakeAudit(), list[str]()
        self.now_ms = 1_000_000

        @self.app.post("/v1/api-keys/{name}")
        async def make(name: str, caller: Admin) -> dict[str, str]:
            self.changed.append(name)
            audit.note(key=name)
            return {"by": caller.subject}

        @self.app.post("/v1/search")
        async def search(caller: identity.Caller) -> dict[str, str]:
            audit.note(query_length=7, documents=["shop/a b", "shop/c"])
            return {"by": caller.subject}

        @self.app.get("/v1/late")
        async def late(caller: identity.Caller) -> None:
            raise Problem("too-many-requests", caller.subject)

        @self.app.get("/v1/broken")
        async def broken() -> None:
            raise RuntimeError("hunter2")

        @self.app.get("/health")
        async def health() -> dict[str, str]:
            return {}

        problems.install(self.app)
        keys = FakeDirectory(known=[api_key("tw_admin", scopes=SCOPES), api_key("tw_reader")])
        identity.install(self.app, keys, lambda: self.now_ms)
        audit.install(self.app, self.audit, lambda: self.now_ms)
        self.app.add_middleware(RequestMiddleware, counter=declare(CollectorRegistry()).http_requests)
        self.app.add_middleware(audit.AuditMiddleware, log=self.audit, now_ms=lambda: self.now_ms)

    async def ask(self, method: str, path: str, key: str | None = "tw_admin", **more: Any) -> httpx.Response:
        headers = {"X-Request-ID": "me-1", **({"X-API-Key": key} if key else {})}
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers=headers, **more)


@pytest.fixture
def world() -> World:
    return World()


async def test_a_read_is_one_entry_with_what_the_route_noted(world: World) -> None:
    await world.ask("POST", "/v1/search?q=canary", json={"query": "canary"})

    (entry,) = world.audit.entries
    assert entry == AuditEntry(
        at_ms=world.now_ms,
        actor="tw_admin",
        action="POST /v1/search",
        resource="/v1/search",
        outcome="done",
        tenant="acme",
        request_id="me-1",
        detail={"status": "200", "query_length": "7", "documents": "shop/a b\nshop/c", "client": "127.0.0.1"},
        kind="data_access",
    )


async def test_a_change_of_rights_is_announced_and_then_ended(world: World) -> None:
    assert (await world.ask("POST", "/v1/api-keys/k1")).status_code == 200

    assert [(entry.outcome, entry.kind, entry.action, entry.resource) for entry in world.audit.entries] == [
        ("begun", "authorization", "POST /v1/api-keys/{name}", "/v1/api-keys/k1"),
        ("done", "authorization", "POST /v1/api-keys/{name}", "/v1/api-keys/k1"),
    ]
    assert world.audit.entries[1].detail["key"] == "k1"


async def test_without_the_audit_rights_do_not_change_and_reads_go_on(world: World) -> None:
    world.audit.away = True

    refused, read = await world.ask("POST", "/v1/api-keys/k1"), await world.ask("POST", "/v1/search")

    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert "audit" in refused.json()["detail"]
    assert world.changed == []
    assert read.status_code == 200


@pytest.mark.parametrize(
    ("asked", "key", "said"),
    [
        ("POST /v1/search", None, ("authentication", "refused", "")),
        ("POST /v1/search", "tw_forged", ("authentication", "refused", "")),
        ("POST /v1/api-keys/k1", "tw_reader", ("authorization", "refused", "tw_reader")),
        ("GET /v1/late", "tw_reader", ("security", "refused", "tw_reader")),
        ("GET /v1/broken", "tw_reader", ("data_access", "failed", "")),
        ("GET /v1/nowhere", "tw_reader", ("data_access", "refused", "")),
    ],
)
async def test_what_is_refused_or_fails_is_said_under_its_kind(
    world: World, asked: str, key: str | None, said: tuple[str, str, str]
) -> None:
    await world.ask(*asked.split(), key)

    (entry,) = world.audit.entries
    assert (entry.kind, entry.outcome, entry.actor) == said
    assert "forged" not in str(entry)


async def test_probes_are_no_action(world: World) -> None:
    await world.ask("GET", "/health")

    assert world.audit.entries == []


async def test_a_flood_of_refusals_is_two_entries_and_nothing_of_it_is_lost(world: World) -> None:
    for _ in range(50):
        await world.ask("POST", "/v1/search", None)
    assert len(world.audit.entries) == 1

    world.now_ms += 60_000
    await world.ask("GET", "/v1/broken")
    await world.ask("POST", "/v1/search", None)

    sums = [entry for entry in world.audit.entries if "times" in entry.detail]
    assert [(entry.action, entry.detail["times"]) for entry in sums] == [("POST /v1/search", "49")]


def test_refusals_of_any_number_of_callers_take_bounded_room() -> None:
    refusals, written = Refusals(), 0
    for number in range(5000):
        caller = AuditEntry(1_000_000, f"u{number}", "GET /v1/a", "/v1/a", "refused", "acme", detail={"status": "403"})
        written += len(refusals.take(caller))

    assert written == 1001
    late = AuditEntry(1_060_001, "u", "GET /v1/a", "/v1/a", "refused", "acme", detail={"status": "403"})
    (total, itself) = refusals.take(late)
    assert (total.detail["times"], itself) == ("3999", late)


@pytest.mark.parametrize(
    ("method", "route", "kind", "before"),
    [
        ("POST", "/v1/login", "authentication", False),
        ("POST", "/v1/api-keys", "authorization", True),
        ("DELETE", "/v1/users/{name}", "authorization", True),
        ("GET", "/v1/users/me", "data_access", False),
        ("PUT", "/v1/knowledge-bases/{name}", "authorization", True),
        ("POST", "/v1/admin/rebuilds/{name}/promote", "configuration", True),
        ("GET", "/v1/admin/rebuilds", "data_access", False),
        ("DELETE", "/v1/documents/{document_id:path}", "data_access", False),
        ("POST", "/v1/api-keyserver", "data_access", False),
    ],
)
def test_the_route_decides_the_kind_and_whether_it_comes_first(
    method: str, route: str, kind: str, before: bool
) -> None:
    assert (kind_of(method, route), announced(method, route)) == (kind, before)


def test_of_many_documents_as_many_are_named_as_fit() -> None:
    noted = {"documents": [f"shop/{number}" * 10 for number in range(100)]}

    told = audit._told(noted)

    assert len(told["documents"]) <= 2000
    assert told["documents_in_all"] == "100"
