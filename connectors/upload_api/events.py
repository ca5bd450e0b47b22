"""`POST /v1/events`: CloudEvents 1.0 from source systems, one (structured mode) or a batch.

Before this: a source system's webhook or forwarder. After this: the capture stage. Format: CloudEvents 1.0, "JSON Event
Format". `data` is a document; its id is `data.id`, else `subject`, else `id`. A type that ends in `.deleted`, or
`data.delete`, removes the document.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from connectors.document_body import DocumentRefused, parse_published, to_event
from connectors.upload_api.outbox import publish
from connectors.upload_api.permission import require_writer
from connectors.upload_api.ports import Parts
from runtime.access import Principal
from runtime.web.identity import require
from runtime.web.known_first import KnownFirst
from runtime.web.problem_fields import FieldError
from runtime.web.problems import Problem
from schemas.records import Event

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
MAX_EVENTS = 1000
Caller = Annotated[Principal, Depends(require("ingest"))]
_REQUIRED = ("specversion", "id", "source", "type")
_LONGEST_SOURCE = 200
_OURS = ("api", "uploads")
"""What else comes in says so by these: an event must not pass for a file that a person uploaded."""

_EXAMPLE = {
    "specversion": "1.0",
    "id": "42",
    "source": "https://shop.example/articles",
    "type": "article.changed",
    "subject": "articles/42",
    "data": {"knowledge_base": "shop", "text": "..."},
}


def routes(parts: Parts) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["events"], route_class=KnownFirst)
    content = {STRUCTURED: {"example": _EXAMPLE}, BATCH: {"example": [_EXAMPLE]}}

    @router.post(
        "/v1/events",
        status_code=202,
        summary="Publish CloudEvents",
        openapi_extra={"requestBody": {"required": True, "content": content}},
    )
    async def post_events(request: Request, caller: Caller) -> dict[str, Any]:
        """All are checked before any is published; each is answered with its own position, in order."""
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind not in (STRUCTURED, BATCH):
            raise Problem("unsupported-media-type", f"Send {STRUCTURED}, or {BATCH} for a list.")
        raw = _items(await request.body(), batch=kind == BATCH)
        events = parse_cloud_events(raw, caller.tenant, request.state.request_id)
        for base in dict.fromkeys(event.knowledge_base for event in events):
            await require_writer(caller, base, parts.bases)
        deliveries = await publish(parts, "events", events)
        told = [
            {"id": item["id"], "document_id": event.id, "position": delivery.position}
            for item, event, delivery in zip(raw, events, deliveries, strict=True)
        ]
        return {"events": told}

    return router


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
    try:
        raw = json.loads(body)
    except ValueError as error:
        raise Problem("malformed-request", "The body is not valid JSON: correct it.") from error
    items = raw if batch else [raw]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Problem("malformed-request", f"Send {'a list of objects' if batch else 'one object'}.")
    if not 0 < len(items) <= MAX_EVENTS:
        raise Problem("validation-failed", f"Send 1 to {MAX_EVENTS} events at once.")
    return items


def _attributes(item: dict[str, Any]) -> list[FieldError]:
    wrong = [
        FieldError(name, "is missing or no text", "add it, as CloudEvents 1.0 wants it")
        for name in _REQUIRED
        if not isinstance(item.get(name), str) or not item[name]
    ]
    if not wrong and item["specversion"] != "1.0":
        wrong.append(FieldError("specversion", "is not 1.0", "send CloudEvents 1.0"))
    source = item.get("source")
    if isinstance(source, str) and (len(source) > _LONGEST_SOURCE or not source.isprintable()):
        wrong.append(FieldError("source", f"is longer than {_LONGEST_SOURCE} or not printable", "send a shorter URI"))
    elif source in _OURS:
        wrong.append(FieldError("source", "is a name of ours", "name the system that it comes from, as a URI"))
    if not isinstance(item.get("data"), dict) and not _deletes(item):
        wrong.append(FieldError("data", "is no JSON object", "send the document's fields in it"))
    if not isinstance(item.get("subject", ""), str):
        wrong.append(FieldError("subject", "is no text", "send the document's id in it, or leave it out"))
    return wrong


def _deletes(item: dict[str, Any]) -> bool:
    return str(item.get("type", "")).endswith(".deleted")


def _event(item: dict[str, Any], tenant: str, request_id: str) -> Event:
    data = dict(item.get("data") or {})
    if _deletes(item):
        data["delete"] = True
    document = parse_published({"id": item.get("subject") or item["id"], **data})
    return to_event(document, tenant=tenant, document_id=document.id, source=item["source"], request_id=request_id)
