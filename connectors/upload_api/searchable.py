"""`?wait=searchable` of published documents: how far each came, once all have ended or the time is up.

Before this: `documents.py`, with what Kafka confirmed. After this: the answer. An upload has an id that receipts name,
and is waited for in `follow.py`; a document has its position.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query

from connectors.upload_api.ports import Parts
from runtime.producer import Delivery
from runtime.progress import Accepted

WaitFor = Annotated[str | None, Query(pattern="^searchable$", description="Answer once it is searchable.")]
WaitSeconds = Annotated[float, Query(ge=0, le=300, description="Seconds that `wait` may take.")]

_LOOK_S = 1.0
"""So often it is seen that the process is to end, and what has failed is noted before it is forgotten."""


async def told(
    parts: Parts, tenant: str, published: Sequence[tuple[str, Delivery]], wait: str | None, timeout_s: float
) -> list[dict[str, Any]]:
    """One body for each published document (id, delivery), in order; with `wait` its `state` and `reason`, too.

    state is `searchable` (it, or what took its place: a newer version, a deletion), `failed` with the reason, or
    `received` where its end is not known within the timeout.
    """
    bodies: list[dict[str, Any]] = [{"document_id": name, "position": sent.position} for name, sent in published]
    if wait is None:
        return bodies
    positions = [Accepted(sent.topic, sent.partition, sent.offset) for _, sent in published]
    ended = await _ended(parts, tenant, positions, timeout_s)
    return [
        body | ended.get(position, {"state": "received", "reason": None})
        for body, position in zip(bodies, positions, strict=True)
    ]


async def _ended(
    parts: Parts, tenant: str, positions: Sequence[Accepted], timeout_s: float
) -> dict[Accepted, dict[str, str | None]]:
    """How those ended that did, when all have, the time is up, or the process is to end."""
    clock = asyncio.get_running_loop().time
    deadline, missing = clock() + timeout_s, list(positions)
    found: dict[Accepted, dict[str, str | None]] = {}
    while True:
        left = max(0.0, deadline - clock())
        missing = await parts.receipts.wait(missing, min(left, _LOOK_S))
        for position in set(positions) - found.keys() - set(missing):
            reason = parts.receipts.progress.failed(tenant, position)
            found[position] = {"state": "searchable" if reason is None else "failed", "reason": reason}
        if not missing or not left or parts.stopping():
            return found
