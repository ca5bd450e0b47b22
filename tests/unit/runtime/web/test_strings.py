"""NUL and halves of surrogate pairs end at the edge, wherever in a request they stand; everything else passes."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from runtime.metrics import declare
from runtime.web import problems
from runtime.web.requests import RequestMiddleware
from runtime.web.strings import WellFormedStrings, flawed

_ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=6) | st.text(
    "\\u0dD8cC\x00\ud800\udc00n", max_size=8
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


def strings(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case list():
            return [text for item in value for text in strings(item)]
        case dict():
            return [*value, *(text for item in value.values() for text in strings(item))]
    return []


@given(_JSON, st.booleans())
def test_a_body_is_flawed_if_one_of_its_strings_is(value: Any, escaped: bool) -> None:
    body = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    try:
        body.decode()
    except UnicodeDecodeError:
        return  # refused as no UTF-8

    wanted = any(re.search("[\x00\ud800-\udfff]", text) for text in strings(json.loads(body)))

    # Of a name that comes twice the first value is forgotten by the parser, and still counts here.
    assert flawed(body) is wanted


class Thing(BaseModel):
    name: str
    size: int = 1


def client() -> httpx.AsyncClient:
    app = FastAPI()
    problems.install(app)

    @app.post("/things/{place:path}")
    async def made(place: str, thing: Thing) -> str:
        return thing.name

    @app.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(WellFormedStrings)
    app.add_middleware(RequestMiddleware, counter=declare(CollectorRegistry()).http_requests)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (rb'{"name": "a\ud800"}', "name"),
        (rb'{"name": "\ud83d\ud83d"}', "name"),
        (rb'{"name": "\ude00\ud83d"}', "name"),
        (rb'{"name": "\ud83d and a line\n"}', "name"),
        (rb'{"name": "a\u0000"}', "name"),
        (rb'{"name": "a", "deep": [{"er": "\udfff"}]}', "deep.0.er"),
        (rb'{"name": "a", "k\ud800": 1}', r"k\ud800"),
        (rb'{"name": "\ud800", "name": "a"}', "body"),
        (rb'"\ud800', "body"),
    ],
)
@pytest.mark.parametrize("path", ["/things/x", "/raw"])
async def test_the_field_is_named_and_no_route_sees_it(path: str, body: bytes, field: str) -> None:
    answered = await client().post(path, content=body, headers={"Content-Type": "application/json"})

    assert answered.status_code == 422
    assert answered.headers["Content-Type"] == "application/problem+json"
    assert [error["field"] for error in answered.json()["errors"]] == [field]


@pytest.mark.parametrize("kind", ["application/json", "Application/CloudEvents+JSON; charset=utf-8", ""])
async def test_every_kind_of_json_is_looked_at(kind: str) -> None:
    answered = await client().post("/raw", content=rb'"\ud800"', headers={"Content-Type": kind} if kind else {})

    assert answered.status_code == 422


@pytest.mark.parametrize("body", [b'{"name": "\xed\xa0\x80"}', b'{"name": "\xff"}', b'{"name": "\xf0\x9f'])
async def test_what_is_not_utf8_is_a_400(body: bytes) -> None:
    answered = await client().post("/things/x", content=body, headers={"Content-Type": "application/json"})

    assert (answered.status_code, answered.json()["type"]) == (400, "/problems/malformed-request")


async def test_a_flaw_is_found_wherever_the_body_is_cut() -> None:
    whole = b'{"name": "\xf0\x9f\x98\x80 \\ud83d\\ude00"}'
    body = b'{"name": "\xf0\x9f\x98\x80 \\ud83d\\ude00 \\ud83d"}'

    async def pieces(of: bytes, at: int) -> AsyncIterator[bytes]:
        yield of[:at]
        yield of[at:]

    async with client() as asking:
        headers = {"Content-Type": "application/json"}
        for at in range(len(body)):
            assert (await asking.post("/things/x", content=pieces(body, at), headers=headers)).status_code == 422
        for at in range(len(whole)):
            assert (await asking.post("/things/x", content=pieces(whole, at), headers=headers)).status_code == 200


@pytest.mark.parametrize("text", ["plain", "\U0001f600", r"\ud800 in words", "\\", '"', "\x07\x1b\n", "\ufffe"])
async def test_every_other_text_comes_through_unchanged(text: str) -> None:
    for escaped in (True, False):
        answered = await client().post(
            "/things/x",
            content=json.dumps({"name": text}, ensure_ascii=escaped).encode(),
            headers={"Content-Type": "application/json"},
        )
        assert (answered.status_code, answered.json()) == (200, text)


async def test_bytes_that_are_no_json_go_by() -> None:
    answered = await client().post("/raw", content=b"\x00\xff\\ud800", headers={"Content-Type": "image/png"})

    assert (answered.status_code, answered.json()) == (200, 8)


@pytest.mark.parametrize(("path", "field"), [("/things/a%00b", "path"), ("/things/a?x=%00", "query")])
async def test_a_nul_in_path_or_query_is_refused(path: str, field: str) -> None:
    answered = await client().post(path, json={"name": "a"})

    assert answered.status_code == 422
    assert answered.json()["errors"][0]["field"] == field
