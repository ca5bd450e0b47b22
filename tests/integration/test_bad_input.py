"""Bad requests to both APIs: each is refused with a problem document (RFC 9457) that names what is wrong and a fix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.client import Client
from tests.support.product import Product

pytestmark = [pytest.mark.real, pytest.mark.timeout(120, func_only=True)]

MAX_BYTES = 26_214_400


def file_of(content: bytes, name: str = "a.txt", **fields: str) -> Callable[[Client], httpx.Response]:
    """An upload of a file with these fields."""
    return lambda client: client.ingest.post("/v1/uploads", files={"file": (name, content)}, data=fields)


def search_for(**body: Any) -> Callable[[Client], httpx.Response]:
    """A search with this body."""
    return lambda client: client.query.post("/v1/search", json=body)


@dataclass(frozen=True)
class Case:
    """A request, and what its answer must say; field None: no field is at fault, but the detail says what to do."""

    name: str
    send: Callable[[Client], httpx.Response]
    status: int
    kind: str
    field: str | None = None


CASES = [
    Case("a file of one byte too much", file_of(b"a" * (MAX_BYTES + 1), knowledge_base="kb"), 413, "too-large", "file"),
    Case(
        "a program with a text file's name",
        file_of(b"\x7fELF\x02\x01\x01" + b"\x00" * 100, knowledge_base="kb"),
        415,
        "unsupported-media-type",
    ),
    Case("an empty file", file_of(b"", knowledge_base="kb"), 422, "validation-failed", "file"),
    Case("no knowledge base", file_of(b"some text"), 422, "validation-failed", "knowledge_base"),
    Case("an unknown form field", file_of(b"t", knowledge_base="k", kb="k"), 422, "validation-failed", "kb"),
    Case("a knowledge base that is not there", search_for(query="a", knowledge_bases=["no-such"]), 404,
         "knowledge-base-not-found"),
    Case("an unknown filter", search_for(query="a", filters={"no_such_key": 1}), 422, "validation-failed",
         "filters.no_such_key"),
    Case("an unknown operator", search_for(query="a", filters={"source": {"like": "x"}}), 422, "validation-failed",
         "filters.source.like"),
    Case("a query of 1,001 characters", search_for(query="a" * 1001), 422, "validation-failed", "query"),
    Case("an empty query", search_for(query="  "), 422, "validation-failed", "query"),
    Case("an unknown body field", search_for(query="a", knowledge_base="kb"), 422, "validation-failed",
         "knowledge_base"),
    Case("limit 0", search_for(query="a", limit=0), 422, "validation-failed", "limit"),
    Case("limit 1,000,000", search_for(query="a", limit=10**6), 422, "validation-failed", "limit"),
    Case("an unknown mode", search_for(query="a", mode="psychic"), 422, "validation-failed", "mode"),
    Case("no JSON", lambda client: client.query.post("/v1/search", content=b"{"), 400, "malformed-request"),
    Case("a document without text", lambda client: client.ingest.put("/v1/documents/a", json={"knowledge_base": "k"}),
         422, "validation-failed", "text"),
    Case("an upload that is not there", lambda client: client.ingest.get("/v1/uploads/none"), 404, "upload-not-found"),
]  # fmt: skip


def problem_of(answered: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """The problem document, complete and of this kind."""
    assert answered.status_code == status, answered.text
    assert answered.headers["content-type"] == "application/problem+json"
    assert answered.headers["x-request-id"]
    found: dict[str, Any] = answered.json()
    assert found["type"] == f"/problems/{kind}"
    assert found["status"] == status
    assert found["instance"] == f"urn:request:{answered.headers['x-request-id']}"
    assert found["title"]
    assert found["detail"]
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_is_refused_and_told(case: Case, product: Product) -> None:
    found = problem_of(case.send(product.client), case.status, case.kind)

    if case.field is not None:
        named = {error["field"]: error for error in found["errors"]}
        assert case.field in named, found
        assert named[case.field]["message"]
        assert named[case.field]["fix"]


@pytest.mark.parametrize("key", [None, "tw_wrong", "x" * 10_000], ids=["none", "wrong", "endless"])
@pytest.mark.parametrize(
    ("api", "method", "path"),
    [
        ("query", "POST", "/v1/search"),
        ("query", "POST", "/v1/query"),
        ("query", "GET", "/v1/documents/a"),
        ("query", "GET", "/v1/stats"),
        ("upload", "POST", "/v1/uploads"),
        ("upload", "GET", "/v1/uploads/a"),
        ("upload", "GET", "/v1/uploads/a/events"),
        ("upload", "PUT", "/v1/documents/a"),
        ("upload", "POST", "/v1/documents"),
        ("upload", "DELETE", "/v1/documents/a"),
        ("upload", "POST", "/v1/events"),
    ],
)
def test_nothing_is_open_without_a_valid_key(
    api: str, method: str, path: str, key: str | None, product: Product
) -> None:
    url = product.stack.state()["apis"][api]
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}

    answered = httpx.request(method, f"{url}{path}", headers=headers, timeout=30, trust_env=False)

    problem_of(answered, 401, "unauthenticated")
    assert answered.headers["www-authenticate"].startswith("Bearer")


def test_a_file_of_exactly_the_limit_is_not_too_large(product: Product) -> None:
    text = (b"One sentence of many. " * (MAX_BYTES // 22 + 1))[:MAX_BYTES]

    answered = file_of(text)(product.client)

    # The size is looked at before the fields: what is told is the missing knowledge base, and nothing is indexed.
    problem = problem_of(answered, 422, "validation-failed")
    assert [error["field"] for error in problem["errors"]] == ["knowledge_base"]
