"""`POST /v1/events`: CloudEvents 1.0 from source systems: one (structured or binary mode), or a batch.

Before this: a source system's webhook or forwarder. After this: the capture stage. Format: CloudEvents 1.0, "JSON Event
Format" and "HTTP Protocol Binding". `data` is a document; its id is `data.id`, else `subject`, else `id`. A type that
ends in `.deleted`, or `data.delete`, removes the document. What is an event's own is checked in `cloud_events.py`.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from connectors.upload_api.cloud_events import BATCH, STRUCTURED, parse_cloud_events, read_request
from connectors.upload_api.outbox import publish
from connectors.upload_api.permission import require_writer
from connectors.upload_api.ports import Parts
from runtime.access import Principal
from runtime.web.identity import require
from runtime.web.known_first import KnownFirst

Caller = Annotated[Principal, Depends(require("ingest"))]
_DATA = {"knowledge_base": "shop", "text": "..."}
_EXAMPLE = {
    "specversion": "1.0",
    "id": "42",
    "source": "https://shop.example/articles",
    "type": "article.changed",
    "subject": "articles/42",
    "data": _DATA,
}


def routes(parts: Parts) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["events"], route_class=KnownFirst)
    content = {
        STRUCTURED: {"example": _EXAMPLE},
        BATCH: {"example": [_EXAMPLE]},
        "application/json": {"description": "`data` alone, with the attributes in `ce-` headers.", "example": _DATA},
    }

    @router.post(
        "/v1/events",
        status_code=202,
        summary="Publish CloudEvents",
        openapi_extra={"requestBody": {"required": True, "content": content}},
    )
    async def post_events(request: Request, caller: Caller) -> dict[str, Any]:
        """All are checked before any is published, and each is answered with its own position, in order. If one is
        wrong none is published; `errors` names each wrong attribute behind its event's place in the batch.
        """
        raw = read_request(request.headers, await request.body())
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
