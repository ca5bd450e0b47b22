"""`/v1/documents`: one document put, many published, one deleted, as JSON.

Before this: `../document_body.py` (what is valid). After this: the capture stage takes the events.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from connectors.document_body import DocumentBody, KnowledgeBaseName, NamedDocument, free_id, to_event
from connectors.upload_api.outbox import publish
from connectors.upload_api.permission import require_writer
from connectors.upload_api.ports import Parts
from connectors.upload_api.searchable import WaitFor, WaitSeconds, told
from runtime.access import Principal
from runtime.web.identity import require
from runtime.web.known_first import KnownFirst
from schemas.records import Event

SOURCE = "api"
MAX_DOCUMENTS = 1000
Caller = Annotated[Principal, Depends(require("ingest"))]
DocumentName = Annotated[
    str,
    Path(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$", description="The document's id."),
    AfterValidator(free_id),
]


class ManyDocuments(BaseModel):
    """Documents in the order in which they are published."""

    model_config = ConfigDict(extra="forbid")

    documents: Annotated[list[NamedDocument], Field(min_length=1, max_length=MAX_DOCUMENTS)]


def routes(parts: Parts) -> APIRouter:
    """The three routes."""
    router = APIRouter(prefix="/v1/documents", tags=["documents"], route_class=KnownFirst)

    @router.post("", status_code=202, summary="Publish many documents")
    async def publish_many(
        body: ManyDocuments,
        caller: Caller,
        request: Request,
        wait: WaitFor = None,
        timeout: WaitSeconds = 30,  # noqa: ASYNC109  # part of the answer's promise, and bounded
    ) -> dict[str, Any]:
        """All are checked before any is published; each is answered with its own position, in order. With
        `wait=searchable` the answer says how far each came: `searchable`, `failed` (and why), or `received`.
        """
        for base in dict.fromkeys(document.knowledge_base for document in body.documents):
            await require_writer(caller, base, parts.bases)
        events = [
            to_event(
                document,
                tenant=caller.tenant,
                document_id=document.id,
                source=SOURCE,
                request_id=request.state.request_id,
            )
            for document in body.documents
        ]
        deliveries = await publish(parts, "events", events)
        published = [(event.id, delivery) for event, delivery in zip(events, deliveries, strict=True)]
        return {"documents": await told(parts, caller.tenant, published, wait, timeout)}

    @router.put("/{document_id:path}", status_code=202, summary="Publish one document, new or changed")
    async def put(
        document_id: DocumentName,
        *,
        body: DocumentBody,
        caller: Caller,
        request: Request,
        wait: WaitFor = None,
        timeout: WaitSeconds = 30,  # noqa: ASYNC109  # as above
    ) -> dict[str, Any]:
        """The same again changes nothing."""
        await require_writer(caller, body.knowledge_base, parts.bases)
        event = to_event(
            body, tenant=caller.tenant, document_id=document_id, source=SOURCE, request_id=request.state.request_id
        )
        (delivery,) = await publish(parts, "events", [event])
        (answer,) = await told(parts, caller.tenant, [(document_id, delivery)], wait, timeout)
        return answer

    @router.delete("/{document_id:path}", status_code=202, summary="Remove one document")
    async def delete(
        document_id: DocumentName,
        knowledge_base: Annotated[KnowledgeBaseName, Query()],
        caller: Caller,
        request: Request,
    ) -> dict[str, Any]:
        """Removing a document that is not there is no error."""
        await require_writer(caller, knowledge_base, parts.bases)
        event = Event(
            caller.tenant,
            knowledge_base,
            document_id,
            delete=True,
            source=SOURCE,
            request_id=request.state.request_id,
        )
        (delivery,) = await publish(parts, "events", [event])
        return {"document_id": document_id, "position": delivery.position}

    return router
