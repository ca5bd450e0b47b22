"""What the upload API asks of the rest, so that tests can answer instead of Kafka and a disk.

Before this: nothing. After this: `app.py` takes them all in one bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import runtime.progress
from connectors.upload_api.upload_keys import UploadKeys
from runtime.access import KnowledgeBase
from runtime.producer import Delivery, Encoder, Sender
from runtime.progress import Accepted
from schemas.records import AccessEntry, Upload


class Blobs(Protocol):
    """The blob store."""

    def put(self, path: Path, *, tenant: str) -> str:
        """Store a file's content durably; returns its name. Raises BlobUnavailable."""
        ...


class Bases(Protocol):
    """The directory's knowledge bases."""

    @property
    def ready(self) -> bool:
        """True once every knowledge base is known."""
        ...

    def base(self, tenant: str, name: str) -> KnowledgeBase | None:
        """A knowledge base, None if there is none."""
        ...

    async def put_async(self, entry: AccessEntry) -> None:
        """Write an entry. Raises DeliveryFailed, NotReadBack."""
        ...


@dataclass(frozen=True)
class StageSeen:
    """An upload reached a state (`received`, `parsed`, ...) at a moment (milliseconds since 1970)."""

    state: str
    at_ms: int


@dataclass(frozen=True)
class UploadState:
    """How far an upload came. stages are in order, the last one is the present state.

    position is where its record lies; None until that record was read back. superseded: a newer version of the
    document took its place before it was indexed. reason is set when it failed.
    """

    upload_id: str
    tenant: str
    knowledge_base: str
    document_id: str
    stages: tuple[StageSeen, ...]
    filename: str | None = None
    fingerprint: str | None = None
    position: str | None = None
    chunks: int = 0
    embedded: int = 0
    reused: int = 0
    superseded: bool = False
    reason: str | None = None

    @property
    def state(self) -> str:
        """The present state."""
        return self.stages[-1].state

    @property
    def ended(self) -> bool:
        """True once nothing follows."""
        return self.state in ("searchable", "failed")


class Progress(Protocol):
    """How far uploads came."""

    def find(self, upload_id: str) -> UploadState | None:
        """The upload's state, None if it is not known (any more)."""
        ...

    def accepted(self, upload: Upload, delivery: Delivery) -> None:
        """Tell that an upload was just accepted, so that it is known before its record is read back."""
        ...

    async def changed(self, upload_id: str, known: UploadState | None, timeout_s: float) -> UploadState | None:
        """Wait until the state differs from what is known (at most timeout_s); returns the present one."""
        ...


class Receipts(Protocol):
    """What the stages have said of accepted inputs, by position."""

    @property
    def progress(self) -> runtime.progress.Progress:
        """Which have ended, and which of them failed."""
        ...

    async def wait(self, positions: Sequence[Accepted], timeout_s: float) -> list[Accepted]:
        """Those of the positions that did not end within the timeout."""
        ...


@dataclass(frozen=True)
class Parts:
    """Everything the routes need. stopping is true once the process was told to end.

    keys_ready is true once every Idempotency-Key that counts is known; key_required: an upload must have one;
    key_timeout_s: longest wait until a claim of one is read back; patience_s: for what another replica has done.
    """

    sender: Sender
    encoder: Encoder
    blobs: Blobs
    bases: Bases
    progress: Progress
    receipts: Receipts
    spool: Path
    max_bytes: int
    now_ms: Callable[[], int]
    stopping: Callable[[], bool] = lambda: False
    keys: UploadKeys = field(default_factory=UploadKeys)
    keys_ready: Callable[[], bool] = lambda: True
    key_required: bool = False
    key_timeout_s: float = 10.0
    patience_s: float = 2.0
    stream_limit_s: float = 900.0
    heartbeat_s: float = 10.0
