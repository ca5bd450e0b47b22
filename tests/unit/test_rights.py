"""Who may do what at every route of both APIs: one table. A route without a row fails, and so does a row too many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from runtime.access import SCOPES, ApiKey, KnowledgeBase, Principal, digest
from runtime.identity.tokens import TokenRefused
from schemas.records import Upload
from tests.support.access_topic import AccessReplica, AccessTopic
from tests.unit.connectors.upload_api.world import upload_world
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex, candidate, manifest
from tests.unit.query_api.fakes import app_around, people_of

BOTH = frozenset({"query", "ingest"})


def person(name: str, scopes: frozenset[Any] = BOTH, *, tenant: str = "acme", **roles: Any) -> Principal:
    return Principal(name, tenant, scopes, roles, via="session")


PEOPLE = {
    "viewer": person("viewer", kb="viewer"),
    "editor": person("editor", kb="editor"),
    "keeper": person("keeper", kb="admin"),
    "admin": person("admin", frozenset(SCOPES)),
    "outsider": person("outsider"),  # of the tenant, without a role in the knowledge base
    "foreign": person("foreign", frozenset(SCOPES), tenant="other"),  # an admin, of another tenant
    "asker": person("asker", frozenset({"query"}), kb="editor"),
    "feeder": person("feeder", frozenset({"ingest"}), kb="editor"),
}
WHO = ("nobody", *PEOPLE)

DOCUMENT = {"text": "x", "knowledge_base": "kb"}
SETTINGS = {"absent_access": "nobody", "filterable": None, "policy": {}}
EVENT = {"specversion": "1.0", "id": "e", "source": "s", "type": "t", "data": DOCUMENT}
SEARCH = {"query": "leave", "knowledge_bases": ["kb"]}
CLOUD = {"Content-Type": "application/cloudevents+json"}

# The columns of the table: nobody, viewer, editor, keeper, admin, outsider, foreign, asker, feeder.
READS = (401, 200, 200, 200, 200, 404, 404, 200, 403)
WRITES = (401, 403, 202, 202, 202, 404, 202, 403, 202)  # a foreign admin's write makes a base of its own tenant
FOLLOWS = (401, 200, 200, 200, 200, 404, 404, 403, 200)
KNOWS = (401, 200, 200, 200, 200, 200, 200, 200, 200)  # only what is one's own, or nothing
ASKS = (401, 200, 200, 200, 200, 200, 200, 200, 403)
RATES = (401, 202, 202, 202, 202, 202, 202, 202, 403)
OWN_KEY = (401, 404, 404, 404, 201, 404, 404, 404, 404)  # of a key that is another's
KEEPS = (401, 403, 403, 200, 200, 404, 404, 403, 403)
GIVES = (401, 403, 403, 204, 204, 404, 404, 403, 403)
OPEN = (200,) * 9


@dataclass(frozen=True)
class Row:
    """A request to a route, and the status each of WHO gets."""

    url: str
    wanted: tuple[int, ...]
    body: Any = None
    headers: Any = None
    form: bool = False


QUERY_ROWS = {
    "POST /v1/search": Row("/v1/search", READS, SEARCH),
    "POST /v1/query": Row("/v1/query", READS, SEARCH),
    # Each question fails alone: whoever may not read `kb` is told so within the answer.
    "POST /v1/query/batch": Row("/v1/query/batch", ASKS, {"queries": [SEARCH]}),
    "POST /v1/feedback": Row("/v1/feedback", RATES, {"answer_id": f"{0:032x}", "rating": 5}),
    "POST /v1/vector_stores/{vector_store_id}/search": Row("/v1/vector_stores/kb/search", READS, {"query": "leave"}),
    "GET /v1/documents/{document_id:path}": Row("/v1/documents/leave?knowledge_base=kb", READS),
    "GET /v1/stats": Row("/v1/stats?knowledge_base=kb", READS),
    "POST /v1/login": Row("/v1/login", (401,) * 9, {"username": "eve", "password": "wrong"}),
    "GET /v1/users/me": Row("/v1/users/me", KNOWS),
    "GET /v1/api-keys": Row("/v1/api-keys", KNOWS),
    "POST /v1/api-keys": Row(
        "/v1/api-keys", (401, 201, 201, 201, 201, 201, 201, 201, 403), {"scopes": ["query"], "roles": {}}
    ),
    "POST /v1/api-keys/{key_id}/rotate": Row("/v1/api-keys/k_other/rotate", OWN_KEY, {"overlap_s": 0}),
    "DELETE /v1/api-keys/{key_id}": Row(
        "/v1/api-keys/k_other", tuple(200 if code == 201 else code for code in OWN_KEY)
    ),
    "GET /v1/knowledge-bases": Row("/v1/knowledge-bases", KNOWS),
    "POST /v1/knowledge-bases": Row(
        "/v1/knowledge-bases", (401, 403, 403, 403, 201, 403, 201, 403, 403), {"name": "new"}
    ),
    "GET /v1/knowledge-bases/{name}": Row("/v1/knowledge-bases/kb", (401, 200, 200, 200, 200, 404, 404, 200, 200)),
    "PUT /v1/knowledge-bases/{name}": Row("/v1/knowledge-bases/kb", KEEPS, SETTINGS),
    "GET /v1/knowledge-bases/{name}/roles": Row("/v1/knowledge-bases/kb/roles", KEEPS),
    "PUT /v1/knowledge-bases/{name}/roles/{who:path}": Row(
        "/v1/knowledge-bases/kb/roles/staff", KEEPS, {"role": "admin"}
    ),
    "DELETE /v1/knowledge-bases/{name}/roles/{who:path}": Row("/v1/knowledge-bases/kb/roles/staff", GIVES),
    "GET /health": Row("/health", OPEN),
    "GET /ready": Row("/ready", OPEN),
    "GET /metrics": Row("/metrics", OPEN),
    "GET /problems/{kind}": Row("/problems/forbidden", OPEN),
    "GET /docs": Row("/docs", OPEN),
}

UPLOAD_ROWS = {
    "POST /v1/uploads": Row("/v1/uploads", WRITES, {"knowledge_base": "kb"}, form=True),
    "GET /v1/uploads/{upload_id}": Row("/v1/uploads/u", FOLLOWS),
    "GET /v1/uploads/{upload_id}/events": Row("/v1/uploads/u/events", FOLLOWS),
    "POST /v1/documents": Row("/v1/documents", WRITES, {"documents": [{**DOCUMENT, "id": "1"}]}),
    "PUT /v1/documents/{document_id:path}": Row("/v1/documents/1", WRITES, DOCUMENT),
    "DELETE /v1/documents/{document_id:path}": Row("/v1/documents/1?knowledge_base=kb", WRITES),
    "POST /v1/events": Row("/v1/events", WRITES, EVENT, CLOUD),
    "GET /health": Row("/health", OPEN),
    "GET /ready": Row("/ready", OPEN),
    "GET /metrics": Row("/metrics", OPEN),
    "GET /problems/{kind}": Row("/problems/forbidden", OPEN),
    "GET /docs": Row("/docs", OPEN),
}


class Tokens:
    """`x.NAME.x` is the token of that person."""

    async def caller(self, token: str) -> Principal:
        found = PEOPLE.get(token.split(".")[1])
        if found is None:
            raise TokenRefused("nobody")
        return found


def topic() -> AccessTopic:
    other = ApiKey("k_other", digest("tw_other"), "somebody", "acme", ("query",), {})
    return AccessTopic(KnowledgeBase("acme", "kb").entry(), other.entry())


class NoLogins:
    """Nobody's password is right."""

    async def login(self, *args: object, **more: object) -> None:
        from runtime.identity.logins import LoginRefused

        raise LoginRefused


@asynccontextmanager
async def query_api(folder: Path) -> AsyncIterator[FastAPI]:
    del folder
    replica = AccessReplica(topic())
    index = FakeIndex([candidate("acme/kb/leave")], [manifest("acme/kb/leave", "c")])
    people = people_of(replica, logins=NoLogins())  # type: ignore[arg-type]
    yield app_around(
        index,
        FakeEmbedder(),
        directory=replica,
        people=people,
        tokens=Tokens(),  # type: ignore[arg-type]
    ).app


@asynccontextmanager
async def upload_api(folder: Path) -> AsyncIterator[FastAPI]:
    async with upload_world(folder, tokens=Tokens(), stream_limit_s=0.05) as world:  # type: ignore[arg-type]
        world.people.bases = {("acme", "kb")}
        upload = Upload("u", "acme", "kb", "report", "report.txt", "text", 1, "0" * 64, "blob", received_ms=1)
        world.progress.take_upload(upload, "uploads/0@0")
        yield world.app


APIS = {"query": (query_api, QUERY_ROWS), "upload": (upload_api, UPLOAD_ROWS)}
CASES = [(api, route, who) for api, (_, rows) in APIS.items() for route in rows for who in WHO]


def routes_of(app: FastAPI) -> set[str]:
    """`METHOD path` of every route that answers, those of included routers too."""
    found = set()
    for route in iter_route_contexts(app.routes):
        methods = set(route.methods or ()) - {"HEAD", "OPTIONS"}
        found |= {f"{method} {route.path}" for method in methods}
    return found


@pytest.mark.parametrize("api", APIS)
async def test_every_route_has_a_row_and_every_row_a_route(api: str, tmp_path: Path) -> None:
    """Whoever adds a route says here who may use it."""
    made, rows = APIS[api]
    async with made(tmp_path) as app:
        found = routes_of(app)

    assert found - {"GET /openapi.json"} == set(rows)


@pytest.mark.parametrize(("api", "route", "who"), CASES, ids=[" ".join(case) for case in CASES])
async def test_each_role_gets_what_the_table_says(api: str, route: str, who: str, tmp_path: Path) -> None:
    made, rows = APIS[api]
    row = rows[route]
    async with made(tmp_path) as app:
        headers = {**(row.headers or {}), **({} if who == "nobody" else {"Authorization": f"Bearer x.{who}.x"})}
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
            body: dict[str, Any] = {"json": row.body} if row.body is not None else {}
            if row.form:
                body = {"data": row.body, "files": {"file": ("report.txt", b"The river carries gravel.\n")}}
            answered = await client.request(route.split(maxsplit=1)[0], row.url, **body)

    assert answered.status_code == row.wanted[WHO.index(who)], answered.text
    if answered.status_code >= 400:
        assert answered.headers["Content-Type"] == "application/problem+json"
    if answered.status_code == 401:
        assert answered.headers["WWW-Authenticate"].startswith('Bearer realm="thalweg"')


@pytest.mark.parametrize("api", APIS)
async def test_without_a_valid_token_every_route_answers_the_same_whatever_is_there(api: str, tmp_path: Path) -> None:
    """The body tells nothing of tenants, documents or uploads; only what anybody may see answers otherwise."""
    made, rows = APIS[api]
    async with made(tmp_path) as app:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            told = set()
            for route, row in rows.items():
                if row.wanted == OPEN or route == "POST /v1/login":
                    continue
                for given in ("x.stranger.x", "tw_stranger", "x", "a.b.c.d", "x" * 70_000):
                    headers = {**(row.headers or {}), "Authorization": f"Bearer {given}"}
                    answered = await client.request(route.split()[0], row.url, json=row.body, headers=headers)
                    told.add((answered.status_code, answered.json()["type"], answered.json()["detail"]))

    assert len(told) == 1, told
    assert told.pop()[:2] == (401, "/problems/unauthenticated")
