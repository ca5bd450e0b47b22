"""CloudEvents 1.0 as HTTP carries them, made into our events; pure. Before this: `events.py`. After this: `outbox.py`.

Formats: "HTTP Protocol Binding" (structured, batched and binary content mode) and "JSON Event Format".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from connectors.document_body import DocumentRefused, parse_published, to_event
from runtime.web.problem_fields import FieldError
from runtime.web.problems import Problem
from schemas.records import Event

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MAX_EVENTS = 1000
_REQUIRED = ("specversion", "id", "source", "type")
_LONGEST = 500
"""Characters of an attribute but `source`."""
_LONGEST_SOURCE = 200
_OURS = ("api", "uploads")
"""What else comes in says so by these: an event must not pass for a file that a person uploaded."""
_URI_REFERENCE = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
"""RFC 3986: the characters that there are."""
_JSON = re.compile(r"application/(?:[a-z0-9.+-]+\+)?json", re.IGNORECASE)


def read_request(headers: Mapping[str, str], body: bytes) -> list[dict[str, Any]]:
    """The events of a request, as JSON objects, unchecked. Raises Problem 415, 400, 422."""
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if kind in (STRUCTURED, BATCH):
        return _items(body, batch=kind == BATCH)
    if "ce-specversion" not in headers:
        raise Problem(
            "unsupported-media-type",
            f"Send {STRUCTURED}, {BATCH} for a list, or `data` alone with the attributes in `ce-` headers.",
        )
    if body and not _JSON.fullmatch(kind):
        raise Problem("unsupported-media-type", "Send `data` as application/json: it is a document's fields.")
    item: dict[str, Any] = {
        name.removeprefix("ce-"): unquote(value) for name, value in headers.items() if name.startswith("ce-")
    }
    return [item if not body else {**item, "data": _json(body)}]


def parse_cloud_events(items: list[dict[str, Any]], tenant: str, request_id: str) -> list[Event]:
    """Our events from CloudEvents. Raises Problem naming every wrong attribute, by its place in the list."""
    events: list[Event] = []
    errors: list[FieldError] = []
    for place, item in enumerate(items):
        wrong = _attributes(item)
        if not wrong:
            try:
                events.append(_event(item, tenant, request_id))
            except DocumentRefused as error:
                wrong = [FieldError(f"data.{found.field}", found.message, found.fix) for found in error.errors]
        prefix = f"{place}." if len(items) > 1 else ""
        errors += [FieldError(prefix + error.field, error.message, error.fix) for error in wrong]
    if errors:
        named = ", ".join(dict.fromkeys(error.field for error in errors))
        raise Problem("validation-failed", f"Not valid: {named}.", errors=errors)
    return events


def _items(body: bytes, *, batch: bool) -> list[dict[str, Any]]:
    raw = _json(body)
    items = raw if batch else [raw]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Problem("malformed-request", f"Send {'a list of objects' if batch else 'one object'}.")
    if not 0 < len(items) <= MAX_EVENTS:
        raise Problem("validation-failed", f"Send 1 to {MAX_EVENTS} events at once.")
    return items


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Problem("malformed-request", "The body is not valid JSON: correct it.") from error


def _attributes(item: dict[str, Any]) -> list[FieldError]:
    wrong = [
        FieldError(name, "is missing or no text", "add it, as CloudEvents 1.0 wants it")
        for name in _REQUIRED
        if not isinstance(item.get(name), str) or not item[name]
    ]
    wrong += [
        FieldError(name, "is too long, or holds control characters", f"send at most {_LONGEST} plain characters")
        for name in ("specversion", "id", "type", "subject")
        if isinstance(text := item.get(name), str) and (len(text) > _LONGEST or not text.isprintable())
    ]
    if not wrong:
        wrong += _values(item)
    source = item.get("source")
    if isinstance(source, str) and (len(source) > _LONGEST_SOURCE or not source.isprintable()):
        wrong.append(FieldError("source", f"is longer than {_LONGEST_SOURCE} or not printable", "send a shorter URI"))
    elif source in _OURS:
        wrong.append(FieldError("source", "is a name of ours", "name the system that it comes from, as a URI"))
    elif isinstance(source, str) and source and not _URI_REFERENCE.fullmatch(source):
        wrong.append(FieldError("source", "is no URI reference", "send one, such as https://shop.example/articles"))
    if not isinstance(item.get("data"), dict) and not _deletes(item):
        wrong.append(FieldError("data", "is no JSON object", "send the document's fields in it"))
    if not isinstance(item.get("subject", ""), str):
        wrong.append(FieldError("subject", "is no text", "send the document's id in it, or leave it out"))
    return wrong


def _values(item: dict[str, Any]) -> list[FieldError]:
    wrong = []
    if item["specversion"] != "1.0":
        wrong.append(FieldError("specversion", "is not 1.0", "send CloudEvents 1.0"))
    if not _is_time(item.get("time")):
        wrong.append(FieldError("time", "is no RFC 3339 timestamp", "send one, such as 2026-01-31T09:00:00Z"))
    if not _JSON.fullmatch(str(item.get("datacontenttype", "application/json")).split(";")[0].strip()):
        wrong.append(FieldError("datacontenttype", "is not JSON", "send the document's fields as JSON"))
    if "data_base64" in item:
        wrong.append(FieldError("data_base64", "is not read", "send a JSON object in `data`; upload files"))
    return wrong


def _is_time(value: object) -> bool:
    """True for an RFC 3339 timestamp, and for none at all."""
    if value is None:
        return True
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _deletes(item: dict[str, Any]) -> bool:
    return str(item.get("type", "")).endswith(".deleted")


def _event(item: dict[str, Any], tenant: str, request_id: str) -> Event:
    data = dict(item.get("data") or {})
    if _deletes(item):
        data["delete"] = True
    document = parse_published({"id": item.get("subject") or item["id"], **data})
    return to_event(document, tenant=tenant, document_id=document.id, source=item["source"], request_id=request_id)
