"""`POST /v1/uploads`: a file in, answered once it is durable.

Before this: `receive.py`. After this: the parse stage takes the record from the topic `uploads`; `follow.py` tells how
far it came.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import JSONResponse, Response

from connectors.upload_api.follow import wait_ended
from connectors.upload_api.form import parse_form
from connectors.upload_api.idempotency import InFlight, upload_id_for
from connectors.upload_api.outbox import publish
from connectors.upload_api.permission import require_writer
from connectors.upload_api.ports import Parts, UploadState
from connectors.upload_api.progress import fingerprint
from connectors.upload_api.receive import Received, invalid_field, receive
from runtime.access import Principal
from runtime.blobs import BlobUnavailable
from runtime.filetypes import Kind, detect
from runtime.web.identity import require
from runtime.web.problems import Problem
from schemas.records import Upload

Caller = Annotated[Principal, Depends(require("ingest"))]
_KINDS = ", ".join(Kind)
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file", "knowledge_base"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": f"One of: {_KINDS}."},
        "knowledge_base": {"type": "string"},
        "document_id": {"type": "string", "description": "Absent: the file's name, so that a new version replaces it."},
        "title": {"type": "string"},
        "metadata": {"type": "string", "description": "A JSON object."},
        "access": {"type": "string", "description": "Who may read it: a JSON list, or names with commas between."},
    },
}


def routes(parts: Parts) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/v1/uploads", tags=["uploads"])
    at_work = InFlight()

    @router.post(
        "",
        status_code=202,
        summary="Upload a file",
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
    )
    async def upload(
        request: Request,
        caller: Caller,
        idempotency_key: Annotated[str | None, Header(description="The same request twice is one upload.")] = None,
        wait: Annotated[str | None, Query(pattern="^searchable$", description="Answer once it is searchable.")] = None,
        timeout: Annotated[float, Query(ge=0, le=300, description="Seconds that `wait` may take.")] = 30,  # noqa: ASYNC109
    ) -> Response:
        """Answers 202 once file and record are durable. With `wait=searchable` the answer says how far it came."""
        upload_id = upload_id_for(caller.tenant, idempotency_key)
        with at_work.holding(upload_id):
            content_type = request.headers.get("content-type", "")
            received = await receive(content_type, request.stream(), parts.spool, parts.max_bytes)
            try:
                state = await _accept(parts, caller, upload_id, received, request.state.request_id)
            finally:
                received.path.unlink(missing_ok=True)
        if wait is not None:
            state = await wait_ended(parts, state, timeout)
        body = {"upload_id": upload_id, "document_id": state.document_id, "position": state.position}
        if wait is not None:
            body |= {"state": state.state, "reason": state.reason}
        return JSONResponse(body, 202, headers={"Location": f"/v1/uploads/{upload_id}"})

    return router


async def _accept(parts: Parts, caller: Principal, upload_id: str, received: Received, request_id: str) -> UploadState:
    """From a spooled file to a durable record: 1. checks; 2. blob; 3. record. Nothing is left of what is refused.

    A death after 2 leaves a blob that nothing names: the caller got no answer and sends the file again.
    """
    form = parse_form(received.fields)
    kind = _kind(received)
    await require_writer(caller, form.knowledge_base, parts.bases)
    upload = Upload(
        upload_id=upload_id,
        tenant=caller.tenant,
        knowledge_base=form.knowledge_base,
        # The same name again is a new version of the same document.
        document_id=form.document_id or received.filename or f"sha256-{received.sha256[:32]}",
        filename=received.filename or received.sha256[:16],
        kind=str(kind),
        size=received.size,
        sha256=received.sha256,
        blob="",
        title=form.title,
        metadata=form.metadata,
        access=form.access,
        request_id=request_id,
        received_ms=parts.now_ms(),
    )
    earlier = parts.progress.find(upload_id)
    if earlier is not None and earlier.fingerprint is not None:
        if earlier.fingerprint != fingerprint(upload):
            raise Problem(
                "idempotency-key-reused",
                "An earlier request with this Idempotency-Key had another file or other fields: use a fresh key.",
            )
        return earlier
    try:
        blob = await asyncio.to_thread(parts.blobs.put, received.path, tenant=caller.tenant)
    except BlobUnavailable as error:
        raise Problem("unavailable", f"The file cannot be stored: {error}.", headers={"Retry-After": "10"}) from error
    upload = replace(upload, blob=blob)
    (delivery,) = await publish(parts, "uploads", [upload])
    parts.progress.accepted(upload, delivery)
    state = parts.progress.find(upload_id)
    if state is None:
        raise AssertionError("an accepted upload is known")
    return state


def _kind(received: Received) -> Kind:
    if received.size == 0:
        raise invalid_field("file", "is empty", "send a file with content")
    kind = detect(received.filename, received.head)
    if kind is None:
        name = received.filename or "the file"
        raise Problem(
            "unsupported-media-type",
            f"By its content {name!r} is none of the accepted types: {_KINDS}. Send one of them; the name "
            "alone does not make it one.",
            extra={"accepted": [str(item) for item in Kind]},
        )
    return kind
