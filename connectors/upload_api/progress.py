"""How far uploads came: the topics `uploads` and `receipts` of the last day, folded into bounded memory.

Before this: the stages write receipts. After this: the routes tell callers. As all is in Kafka, any replica can tell
of any upload, also after a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from connectors.upload_api.ports import StageSeen, UploadState
from runtime.freshness import Freshness
from runtime.producer import Delivery
from runtime.topic_tail import TopicTail
from schemas.codec import Codec
from schemas.records import Receipt, ReceiptStage, Upload

WINDOW_MS = 86_400_000
"""How far back states are known (1 day)."""

STATES = ("received", "parsed", "chunked", "embedded", "searchable", "failed")
_OF_STAGE = {
    ReceiptStage.PARSED: "parsed",
    ReceiptStage.CHUNKED: "chunked",
    ReceiptStage.EMBEDDED: "embedded",
    ReceiptStage.INDEXED: "searchable",
    ReceiptStage.DELETED: "searchable",
    ReceiptStage.SUPERSEDED: "searchable",
    ReceiptStage.FAILED: "failed",
}


def fingerprint(upload: Upload) -> str:
    """What makes two uploads the same request: the file, where it goes, and what is said of it."""
    said = [upload.sha256, upload.filename, upload.knowledge_base, upload.document_id, upload.title]
    text = json.dumps([*said, dict(upload.metadata), upload.access], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def fold(known: UploadState | None, receipt: Receipt) -> UploadState | None:
    """The state after a receipt. Pure; receipts may come twice, late, or before the upload itself.

    A state never goes back, and what is skipped on the way counts as passed with the state that implies it. A rebuild's
    receipts of an ended upload change nothing.
    """
    if receipt.upload_id is None:
        return known
    if known is None:
        first = StageSeen("received", receipt.source_ms or receipt.receipt_ms)
        known = UploadState(
            receipt.upload_id, receipt.tenant, receipt.knowledge_base, receipt.document_id, (first,),
            position=receipt.accepted,
        )  # fmt: skip
    new = _OF_STAGE[receipt.stage]
    # A receipt is the stages' word on somebody's upload: the tenants must agree.
    if known.ended or receipt.tenant != known.tenant or STATES.index(new) <= STATES.index(known.state):
        return known
    passed = [] if new == "failed" else list(STATES[STATES.index(known.state) + 1 : STATES.index(new)])
    stages = (*known.stages, *(StageSeen(state, receipt.receipt_ms) for state in [*passed, new]))
    return replace(
        known,
        stages=stages,
        chunks=receipt.chunks or known.chunks,
        embedded=receipt.embedded or known.embedded,
        reused=receipt.reused or known.reused,
        superseded=receipt.stage in (ReceiptStage.SUPERSEDED, ReceiptStage.DELETED),
        reason=receipt.reason,
    )


class UploadProgress:
    """The states of the last day's uploads, at most `capacity` of them. Thread-safe; `changed` of one event loop."""

    def __init__(self, *, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._states: OrderedDict[str, UploadState] = OrderedDict()
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def find(self, upload_id: str) -> UploadState | None:
        """See ports.Progress."""
        with self._lock:
            return self._states.get(upload_id)

    def accepted(self, upload: Upload, delivery: Delivery) -> None:
        """See ports.Progress."""
        self.take_upload(upload, delivery.position)

    def take_upload(self, upload: Upload, position: str) -> None:
        """An upload was accepted at this position; the first position of an id stays."""
        with self._lock:
            known = self._states.get(upload.upload_id)
            if known is not None and known.fingerprint is not None:
                return
            stages = known.stages if known else (StageSeen("received", upload.received_ms),)
            base = known or UploadState(
                upload.upload_id, upload.tenant, upload.knowledge_base, upload.document_id, stages, position=position
            )
            self._put(replace(base, filename=upload.filename, fingerprint=fingerprint(upload), position=position))

    def take_receipt(self, receipt: Receipt) -> None:
        """A stage told how far a change came."""
        if receipt.upload_id is None:
            return
        with self._lock:
            known = self._states.get(receipt.upload_id)
            now = fold(known, receipt)
            if now is not None and now is not known:
                self._put(now)

    async def changed(self, upload_id: str, known: UploadState | None, timeout_s: float) -> UploadState | None:
        """See ports.Progress."""
        self._loop = asyncio.get_running_loop()
        event = asyncio.Event()
        with self._lock:
            if self._states.get(upload_id) != known:
                return self._states.get(upload_id)
            self._waiters.setdefault(upload_id, set()).add(event)
        try:
            await asyncio.wait_for(event.wait(), timeout_s)
        except TimeoutError:
            pass
        finally:
            with self._lock:
                waiting = self._waiters.get(upload_id, set())
                waiting.discard(event)
                if not waiting:
                    self._waiters.pop(upload_id, None)
        return self.find(upload_id)

    def _put(self, state: UploadState) -> None:
        """Keep a state and wake who waits for it; the lock is held."""
        self._states[state.upload_id] = state
        self._states.move_to_end(state.upload_id)
        while len(self._states) > self._capacity:
            self._states.popitem(last=False)
        for event in self._waiters.get(state.upload_id, ()):
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(event.set)


class ProgressTail:
    """Feeds an UploadProgress from Kafka, from back_ms before now on; receipts are what positions are waited for by."""

    def __init__(
        self,
        bootstrap: str,
        codec: Codec,
        progress: UploadProgress,
        now_ms: Callable[[], int],
        *,
        back_ms: int = WINDOW_MS,
    ) -> None:
        self._codec = codec
        self._progress = progress
        self._uploads = TopicTail(bootstrap, "uploads", self._take_upload, since_ms=now_ms() - back_ms)
        self.receipts = Freshness(bootstrap, codec, now_ms, back_ms=back_ms, also=progress.take_receipt)

    def start(self) -> None:
        """Begin to read."""
        self._uploads.start()
        self.receipts.start()

    def close(self) -> None:
        """Stop reading."""
        self._uploads.close()
        self.receipts.close()

    @property
    def caught_up(self) -> bool:
        """True once the last day was read."""
        return self._uploads.caught_up and self.receipts.caught_up

    @property
    def connected(self) -> bool:
        """True while Kafka is reachable."""
        return self._uploads.connected

    def _take_upload(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        del key
        if value is not None:
            self._progress.take_upload(self._codec.decode(value, Upload), f"uploads/{partition}@{offset}")
