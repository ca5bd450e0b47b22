"""`POST /v1/uploads`: a file in, answered once it is durable.

Before this: `receive.py`. After this: the parse stage takes the record from the topic `uploads`; `follow.py` tells how
far it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import JSONResponse, Response

from connectors.upload_api.follow import wait_ended
from connectors.upload_api.form import parse_form
from connectors.upload_api.idempotency import InFlight, Turns, upload_id_for
from connectors.upload_api.outbox import publish
from connectors.upload_api.permission import require_writer
from connectors.upload_api.ports import Parts, UploadState
from connectors.upload_api.receive import Received, invalid_field, receive
from connectors.upload_api.searchable import WaitFor, WaitSeconds
from runtime.access import Principal
from runtime.blobs import BlobUnavailable
from runtime.filetypes import Kind, detect
from runtime.web.identity import require
from runtime.web.known_first import KnownFirst
from runtime.web.problems import Problem
from schemas.document_names import RESERVED
from schemas.records import Upload

Caller = Annotated[Principal, Depends(require("ingest"))]
_KINDS = ", ".join(Kind)
_KEY = "The same request twice within a day is one upload, answered alike; another request with it is refused."
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
    router = APIRouter(prefix="/v1/uploads", tags=["uploads"], route_class=KnownFirst)
    at_work, turns = InFlight(), Turns(parts)

    @router.post(
        "",
        status_code=202,
        summary="Upload a file",
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
    )
    async def upload(
        request: Request,
        caller: Caller,
        idempotency_key: Annotated[list[str], Header(description=_KEY)] = [],  # noqa: B006  # FastAPI copies it
        wait: WaitFor = None,
        timeout: WaitSeconds = 30,  # noqa: ASYNC109  # part of the answer's promise, and bounded
    ) -> Response:
        """Answers 202 once file and record are durable. With `wait=searchable` the answer says how far it came."""
        upload_id = upload_id_for(caller, idempotency_key, required=parts.key_required)
        with at_work.holding(upload_id):
            content_type = request.headers.get("content-type", "")
            received = await receive(content_type, request.stream(), parts.spool, parts.max_bytes)
            try:
                upload = await _checked(parts, caller, upload_id, received, request.state.request_id)
                state = await _accept(parts, upload, received.path, turns if idempotency_key else None)
            finally:
                received.path.unlink(missing_ok=True)
        if wait is not None:
            state = await wait_ended(parts, state, timeout)
        body = {"upload_id": upload_id, "document_id": state.document_id, "position": state.position}
        if wait is not None:
            body |= {"state": state.state, "reason": state.reason}
        return JSONResponse(body, 202, headers={"Location": f"/v1/uploads/{upload_id}"})

    return router


async def _checked(parts: Parts, caller: Principal, upload_id: str, received: Received, request_id: str) -> Upload:
    """What is to be published, its blob still to come. Raises Problem: then nothing is left of it."""
    form = parse_form(received.fields)
    kind = _kind(received)
    await require_writer(caller, form.knowledge_base, parts.bases)
    # The same name again is a new version of the same document.
    document_id = form.document_id or received.filename or f"sha256-{received.sha256[:32]}"
    if document_id.startswith(RESERVED):
        raise invalid_field("document_id", f"begins with {RESERVED!r}, which is ours", "give the document another id")
    return Upload(
        upload_id=upload_id,
        tenant=caller.tenant,
        knowledge_base=form.knowledge_base,
        document_id=document_id,
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


async def _accept(parts: Parts, upload: Upload, path: Path, turns: Turns | None) -> UploadState:
    """From a spooled file to a durable record: 1. the key's turn, if there is a key; 2. blob; 3. record.

    A death after 2 leaves a blob that nothing names: the caller got no answer and sends the file again.
    """
    if turns is None:
        return await _published(parts, upload, path)
    answered = await turns.take(upload)
    if answered is not None:
        return answered
    try:
        state = await _published(parts, upload, path, in_time=turns.in_time)
    except BaseException:
        turns.release(upload)
        raise
    await turns.settle(upload, state.position)
    return state


async def _published(
    parts: Parts, upload: Upload, path: Path, *, in_time: Callable[[str], None] = lambda _: None
) -> UploadState:
    try:
        blob = await asyncio.to_thread(parts.blobs.put, path, tenant=upload.tenant)
    except BlobUnavailable as error:
        raise Problem("unavailable", f"The file cannot be stored: {error}.", headers={"Retry-After": "10"}) from error
    in_time(upload.upload_id)
    upload = replace(upload, blob=blob)
    (delivery,) = await publish(parts, "uploads", [upload])
    parts.progress.accepted(upload, delivery)
    state = parts.progress.find(upload.upload_id)
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
