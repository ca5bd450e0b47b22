"""`/docs`: the API on one page, made here from its OpenAPI, without a script and without the internet.

Before it: an app with its routes. After it: a reader, in a browser that may load nothing from anywhere
(Content-Security-Policy names the one style by its hash).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}"
    "code{font:14px ui-monospace,monospace}h2{margin-top:2.5rem;border-bottom:1px solid #d0d7de}"
    "details{border:1px solid #d0d7de;border-radius:6px;margin:.5rem 0;padding:.5rem 1rem}summary{cursor:pointer}"
    "b{display:inline-block;min-width:4.5rem}table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-top:1px solid #d8dee4}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_DEEPEST = 3
_Schema = Mapping[str, Any]


def install(app: FastAPI) -> None:
    """Serve `/docs` for this app, which was made with `docs_url=None`."""

    async def page() -> HTMLResponse:
        return HTMLResponse(render(app.openapi()), headers={"Content-Security-Policy": POLICY})

    app.add_api_route("/docs", page, include_in_schema=False)


def render(api: _Schema) -> str:
    """The page for an OpenAPI document. Everything in it is text here: nothing of it becomes markup."""
    title, version = escape(api["info"]["title"]), escape(api["info"]["version"])
    by_tag: dict[str, list[str]] = {}
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            tag = (operation.get("tags") or ["other"])[0]
            by_tag.setdefault(tag, []).append(_operation(api, method, path, operation))
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(found)}" for tag, found in by_tag.items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title} <small>{version}</small></h1>"
        f"<p>{escape(api['info'].get('summary', ''))}</p>"
        "<p>For machines: <a href=/openapi.json>/openapi.json</a>. Send a key as "
        "<code>Authorization: Bearer tw_...</code> or <code>X-API-Key: tw_...</code>. "
        "Errors are <code>application/problem+json</code>; each type has a page.</p>"
        f"{sections}</html>"
    )


def _operation(api: _Schema, method: str, path: str, operation: _Schema) -> str:
    parts = [f"<p>{escape(operation['description'])}</p>"] if operation.get("description") else []
    rows = [
        _row(
            item["name"], item["in"], item["schema"], item.get("description", ""), required=item.get("required", False)
        )
        for item in operation.get("parameters", ())
    ]
    if rows:
        parts.append(_table("Parameters", rows))
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        fields = list(_fields(api, body.get("schema", {}), ""))
        if fields:
            parts.append(_table(f"Body, {kind}", fields))
    for status, answer in operation.get("responses", {}).items():
        for kind, body in answer.get("content", {}).items():
            fields = list(_fields(api, body.get("schema", {}), ""))
            if fields and not status.startswith("4"):
                parts.append(_table(f"Answer {status}, {kind}", fields))
    summary = escape(operation.get("summary", ""))
    return (
        f"<details><summary><b>{escape(method.upper())}</b> <code>{escape(path)}</code> {summary}</summary>"
        f"{''.join(parts)}</details>"
    )


def _fields(api: _Schema, schema: _Schema, name: str, depth: int = 0) -> Iterator[str]:
    """A row for each field of a schema, dotted, as deep as a reader follows."""
    resolved = _resolved(api, schema)
    required = resolved.get("required", ())
    for field, raw in resolved.get("properties", {}).items():
        inner = _resolved(api, raw)
        whole = f"{name}{field}"
        yield _row(whole, "", inner, raw.get("description") or inner.get("description", ""), required=field in required)
        below = _resolved(api, inner["items"]) if "items" in inner else inner
        if "properties" in below and depth < _DEEPEST:
            yield from _fields(api, below, f"{whole}{'[]' if 'items' in inner else ''}.", depth + 1)


def _resolved(api: _Schema, schema: _Schema) -> _Schema:
    """The schema itself: references followed, and of `x or null` the x."""
    while True:
        options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
        if "$ref" in schema:
            schema = api["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        elif len(options) == 1:
            schema = {**{key: value for key, value in schema.items() if key != "anyOf"}, **options[0]}
        else:
            return schema


def _row(name: str, where: str, schema: _Schema, description: str, *, required: bool) -> str:
    told = [where, _kind(schema), "required" if required else ""]
    if schema.get("default") is not None:
        told.append(f"default {schema['default']}")
    told += [
        f"{label} {schema[key]}"
        for key, label in (("minimum", "from"), ("maximum", "to"), ("minLength", "shortest"), ("maxLength", "longest"))
        if key in schema
    ]
    about = ", ".join(filter(None, told))
    return f"<tr><td><code>{escape(name)}</code><td>{escape(about)}<td>{escape(description)}"


def _kind(schema: _Schema) -> str:
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_kind(option) for option in schema["anyOf"]))
    if "items" in schema:
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("const") or schema.get("type") or "object")


def _table(caption: str, rows: list[str]) -> str:
    return f"<h4>{escape(caption)}</h4><table>{''.join(rows)}</table>"
