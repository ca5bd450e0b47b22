"""`/v1/uploads`: a file in, its state, and its state as it changes.

Before this: `receive.py`. After this: the parse stage takes the record from the topic `uploads`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from connectors.upload_api.form import FIELDS, UploadForm, parse_form
from connectors.upload_api.idempotency import InFlight, upload_id_for
from connectors.upload_api.outbox import publish
from connectors.upload_api.permission import require_writer
from connectors.upload_api.ports import Parts, UploadState
from connectors.upload_api.progress import STATES, fingerprint
from connectors.upload_api.receive import Received, invalid_field, receive
from runtime.access import Principal
from runtime.blobs import BlobUnavailable
from runtime.filetypes import Kind, detect
from runtime.producer import Outgoing
from runtime.web.identity import require
from runtime.web.problems import Problem
from schemas.records import Upload

Caller = Annotated[Principal, Depends(require("ingest"))]
UploadId = Annotated[str, Path(max_length=64)]
_EXAMPLES = {"kinds": ", ".join(Kind)}
_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file", "knowledge_base"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": f"One of: {_EXAMPLES['kinds']}."},
        "knowledge_base": {"type": "string"},
        "document_id": {"type": "string", "description": "Absent: the file's name, so that a new version replaces it."},
        "title": {"type": "string"},
        "metadata": {"type": "string", "description": "A JSON object."},
        "access": {"type": "string", "description": "Who may read it: a JSON list, or names with commas between."},
    },
}


def routes(parts: Parts) -> APIRouter:
    """The three routes."""
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
            state = await _wait_ended(parts, state, timeout)
        body = {"upload_id": upload_id, "document_id": state.document_id, "position": state.position}
        if wait is not None:
            body |= {"state": state.state, "reason": state.reason}
        return JSONResponse(body, 202, headers={"Location": f"/v1/uploads/{upload_id}"})

    @router.get("/{upload_id}", summary="How far an upload came")
    async def show(upload_id: UploadId, caller: Caller) -> dict[str, Any]:
        """`received`, `parsed`, `chunked`, `embedded`, then `searchable` or `failed`."""
        return _plain(_own(parts, caller, upload_id))

    @router.get("/{upload_id}/events", summary="How an upload proceeds, as server-sent events")
    async def follow(
        upload_id: UploadId, caller: Caller, last_event_id: Annotated[str | None, Header()] = None
    ) -> StreamingResponse:
        """One event a state; the last one is `searchable` or `failed`. `Last-Event-ID` resumes on any replica."""
        state = _own(parts, caller, upload_id)
        seen = int(last_event_id) if last_event_id and last_event_id.isdecimal() else 0
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_events(parts, state, seen), media_type="text/event-stream", headers=headers)

    return router


async def _accept(parts: Parts, caller: Principal, upload_id: str, received: Received, request_id: str) -> UploadState:
    """From a spooled file to a durable record: 1. checks; 2. blob; 3. record. Nothing is left of what is refused.

    A death after 2 leaves a blob that nothing names: the caller got no answer and sends the file again.
    """
    form = parse_form(received.fields)
    kind = _kind(received)
    await require_writer(caller, form.knowledge_base, parts.bases)
    upload = _upload(caller.tenant, upload_id, form, received, kind, request_id, parts.now_ms())
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
    upload = Upload(**{**vars(upload), "blob": blob})
    record = Outgoing("uploads", upload.key.encode(), parts.encoder.encode("uploads", upload))
    (delivery,) = await publish(parts.sender, [record])
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
            f"By its content {name!r} is none of the accepted types: {_EXAMPLES['kinds']}. Send one of them; the name "
            "alone does not make it one.",
            extra={"accepted": [str(item) for item in Kind]},
        )
    return kind


def _upload(
    tenant: str, upload_id: str, form: UploadForm, received: Received, kind: Kind, request_id: str, now_ms: int
) -> Upload:
    """document_id is, unless given, the file's name: the same name again is a new version of the same document."""
    return Upload(
        upload_id=upload_id,
        tenant=tenant,
        knowledge_base=form.knowledge_base,
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
        received_ms=now_ms,
    )


def _own(parts: Parts, caller: Principal, upload_id: str) -> UploadState:
    """The upload, if it is the caller's tenant's and in a knowledge base where the caller has a role."""
    state = parts.progress.find(upload_id)
    if state is None or state.tenant != caller.tenant or caller.role_in(state.knowledge_base) is None:
        raise Problem("upload-not-found", "There is no such upload, or it is older than a day.")
    return state


async def _wait_ended(parts: Parts, state: UploadState, timeout_s: float) -> UploadState:
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not state.ended and not parts.stopping():
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            break
        state = await parts.progress.changed(state.upload_id, state, min(left, 1.0)) or state
    return state


async def _events(parts: Parts, state: UploadState, seen: int) -> AsyncIterator[str]:
    """The states after `seen` (the id of the last event the caller has), until a terminal one."""
    loop = asyncio.get_running_loop()
    deadline, told = loop.time() + parts.stream_limit_s, loop.time()
    yield "retry: 1000\n\n"
    while True:
        for stage in state.stages:
            number = _number(stage.state)
            if number > seen:
                seen = number
                yield _event(number, stage.state, {**_plain(state), "state": stage.state, "at_ms": stage.at_ms})
        if state.ended or parts.stopping():
            return
        if loop.time() > deadline:
            late = "the deadline of this stream passed; the upload is still in the queue, ask for its state later"
            yield _event(_number("failed"), "failed", {**_plain(state), "state": "failed", "reason": late})
            return
        if loop.time() - told > parts.heartbeat_s:
            told = loop.time()
            yield ": waiting\n\n"
        state = await parts.progress.changed(state.upload_id, state, min(1.0, parts.heartbeat_s)) or state


def _number(state: str) -> int:
    """An event's id: the place of its state, the same on every replica; both last states have the last place."""
    return min(STATES.index(state), len(STATES) - 2) + 1


def _event(number: int, name: str, data: dict[str, Any]) -> str:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n"


def _plain(state: UploadState) -> dict[str, Any]:
    return {
        "upload_id": state.upload_id,
        "state": state.state,
        "document_id": state.document_id,
        "knowledge_base": state.knowledge_base,
        "filename": state.filename,
        "position": state.position,
        "stages": [{"state": stage.state, "at_ms": stage.at_ms} for stage in state.stages],
        "chunks": state.chunks,
        "embedded": state.embedded,
        "reused": state.reused,
        "superseded": state.superseded,
        "reason": state.reason,
    }


__all__ = ["FIELDS", "routes"]
