"""`GET /v1/uploads/{id}` and its events: how far an upload came, now and as it goes on.

Before this: `progress.py`. After this: a caller; the events go by `runtime/web/event_stream.py`, to a browser's
EventSource as well.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.responses import Response

from connectors.upload_api.ports import Parts, UploadState
from connectors.upload_api.progress import STATES
from runtime.access import Principal
from runtime.web.event_stream import Event, EventStream, dumped
from runtime.web.identity import require
from runtime.web.problems import Problem

Caller = Annotated[Principal, Depends(require("ingest"))]
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EVENT_ID = re.compile(r"[0-9]{1,3}")
UploadId = Annotated[str, Path(max_length=64)]


def routes(parts: Parts) -> APIRouter:
    """The two routes."""
    router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

    @router.get("/{upload_id}", summary="How far an upload came")
    async def show(upload_id: UploadId, caller: Caller) -> dict[str, Any]:
        """`received`, `parsed`, `chunked`, `embedded`, then `searchable` or `failed`."""
        return _plain(await _own(parts, caller, upload_id))

    @router.get("/{upload_id}/events", summary="How an upload proceeds, as server-sent events")
    async def follow(
        upload_id: UploadId, caller: Caller, request: Request, last_event_id: Annotated[str | None, Header()] = None
    ) -> Response:
        """One event a state; the last one is `searchable` or `failed`. `Last-Event-ID` resumes on any replica; 204 to
        who has the last one already, which ends a browser's EventSource.
        """
        state = await _own(parts, caller, upload_id)
        seen = int(last_event_id) if last_event_id and _EVENT_ID.fullmatch(last_event_id) else 0
        if state.ended and seen >= _number(state.state):
            return Response(status_code=204)
        return EventStream(
            _events(parts, state, seen),
            request_id=request.state.request_id,
            problem_of=lambda _: None,
            heartbeat_s=parts.heartbeat_s,
            longest_s=parts.stream_limit_s + 10,  # its events end before
            resumable=True,
        )

    return router


async def _own(parts: Parts, caller: Principal, upload_id: str) -> UploadState:
    """The upload, if it is the caller's tenant's and in a knowledge base where the caller has a role.

    One that another replica accepted a moment ago is waited for. So the answer that there is none takes its time for
    every id that could be one, and tells nobody whether others have it.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (parts.patience_s if _UUID.fullmatch(upload_id) else 0)
    while True:
        state = parts.progress.find(upload_id)
        if state is not None and state.tenant == caller.tenant and caller.role_in(state.knowledge_base) is not None:
            return state
        left = deadline - loop.time()
        if left <= 0 or parts.stopping():
            raise Problem("upload-not-found", "There is no such upload, or it is older than a day.")
        await parts.progress.changed(upload_id, state, left)


async def wait_ended(parts: Parts, state: UploadState, timeout_s: float) -> UploadState:
    """The upload's state once it ended, or the last one known when the time is up or the process is to end."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not state.ended and not parts.stopping():
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            break
        state = await parts.progress.changed(state.upload_id, state, min(left, 1.0)) or state
    return state


async def _events(parts: Parts, state: UploadState, seen: int) -> AsyncGenerator[Event, None]:
    """The states after `seen` (the id of the last event the caller has), until a terminal one or the process ends."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + parts.stream_limit_s
    while True:
        for stage in state.stages:
            number = _number(stage.state)
            if number > seen:
                seen = number
                data = {**_plain(state), "state": stage.state, "at_ms": stage.at_ms}
                yield Event(stage.state, dumped(data), id=str(number))
        if state.ended or parts.stopping():
            return
        left = deadline - loop.time()
        if left <= 0:
            late = "the deadline of this stream passed; the upload is still in the queue, ask for its state later"
            # Without an id: who resumes gets what really became of it.
            yield Event("failed", dumped({**_plain(state), "state": "failed", "reason": late}), last=True)
            return
        state = await parts.progress.changed(state.upload_id, state, min(left, 1.0)) or state


def _number(state: str) -> int:
    """An event's id: the place of its state, the same on every replica; both last states have the last place."""
    return min(STATES.index(state), len(STATES) - 2) + 1


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
