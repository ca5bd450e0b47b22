"""Idempotency-Key: the same request twice is one upload, wherever it arrives.

Before this: `uploads.py` has a header. After this: it has an upload id that every replica derives alike. What an
earlier request with it was is known from the topic `uploads` (progress.py), so nothing needs to be kept here but what
is at work right now. Protocol: draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from connectors.upload_api.receive import invalid_field
from runtime.web.problems import Problem

NAMESPACE = uuid.UUID("b1c1f2c4-6e0e-5d0a-9b0a-6f5d6f0c7a11")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def upload_id_for(tenant: str, header: str | None) -> str:
    """The id of an upload: derived from tenant and key, random without a key. Raises Problem for a malformed key."""
    if header is None:
        return str(uuid.uuid4())
    key = header.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':  # the draft's form is a quoted string, people send the bare one
        key = key[1:-1]
    if not _KEY.fullmatch(key):
        raise invalid_field("Idempotency-Key", "is not 1-255 visible ASCII characters", "send a UUID, say")
    return str(uuid.uuid5(NAMESPACE, f"{tenant}\n{key}"))


class InFlight:
    """The uploads at work in this process. Of one event loop."""

    def __init__(self) -> None:
        self._ids: set[str] = set()

    @contextmanager
    def holding(self, upload_id: str) -> Iterator[None]:
        """Hold an id while its request is at work. Raises Problem 409 if another one does."""
        if upload_id in self._ids:
            raise Problem(
                "idempotency-key-in-use",
                "A request with this Idempotency-Key is still being received: wait for it, then send the same again.",
                headers={"Retry-After": "1"},
            )
        self._ids.add(upload_id)
        try:
            yield
        finally:
            self._ids.discard(upload_id)
