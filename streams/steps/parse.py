"""The parse stage: an uploaded file becomes a document change, read in a child process with limits.

Before this: the upload API stored the bytes and appended to `uploads`. After this: `index.py`.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime.blobs import BlobMissing, BlobStore, BlobUnavailable
from runtime.filetypes import Kind
from schemas.access_names import access_names
from schemas.codec import Codec, DecodeError
from schemas.records import Block, DocumentChange, Operation, Origin, ReceiptStage, Upload
from streams.core.changes import log_position
from streams.core.lanes import LaneRules
from streams.core.letters import NotRedriven
from streams.core.outcomes import Done, Outcome, Rejected, Retry
from streams.parsing.pool import ParserPool, ParserUnavailable
from streams.parsing.result import ParsedText, ParseFailure
from streams.ports import ChangeLog, Clock, Inbound
from streams.steps.failures import failed_receipt, outcome_of
from streams.steps.protection import Protect

WORK = "parse-"
"""How the folders begin in which single files are parsed."""


@dataclass(frozen=True)
class ParseStep:
    """Step of the stage `parse`. folder: where a file lies while it is read; deadline_s: for one file.

    protection: as Protection.now.
    """

    codec: Codec
    blobs: BlobStore
    pool: ParserPool
    log: ChangeLog
    clock: Clock
    folder: Path
    deadline_s: float
    protection: Callable[[], Protect]
    lanes: LaneRules = field(default_factory=LaneRules)
    name: str = "parse"

    async def handle(self, batch: Sequence[Inbound]) -> list[Outcome]:
        """As Step.handle. Files of one batch are read side by side, as far as the pool has children."""
        return list(await asyncio.gather(*(self._one(record) for record in batch)))

    async def failed(self, record: Inbound, outcome: Rejected) -> None:
        """As Step.failed: the uploader is told the reason."""
        try:
            upload, first = self.codec.decode(record.value or b"", Upload), record.first_seen()
        except (DecodeError, NotRedriven):
            return
        receipt = failed_receipt(_change(upload, first, None), outcome, self.clock.now_ms())
        await asyncio.to_thread(self.log.receipts, [receipt])

    async def _one(self, record: Inbound) -> Outcome:
        if record.value is None:
            return Done("ignored")
        try:
            first = record.first_seen()
            upload = await asyncio.to_thread(self.codec.decode, record.value, Upload)
            result = await self._parse(upload)
            if isinstance(result, ParseFailure):
                return Rejected(result.reason, result.detail)
            await asyncio.to_thread(self._append, _change(upload, first, result))
        except BlobMissing as error:
            return Rejected("blob_missing", str(error))
        except (BlobUnavailable, ParserUnavailable) as error:
            return Retry(f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001  every one has its class
            return outcome_of(error)
        return Done("parsed")

    async def _parse(self, upload: Upload) -> ParsedText | ParseFailure:
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=WORK) as folder:
            path = Path(folder) / "file"
            await asyncio.to_thread(self.blobs.fetch_to, upload.blob, path)
            return await self.pool.parse(path, Kind(upload.kind), deadline_s=self.deadline_s)

    def _append(self, parsed: DocumentChange) -> None:
        change = replace(self.protection()(parsed), captured_ms=self.clock.now_ms())
        self.log.changes([(change, self.lanes.by_size(change))])
        receipt = replace(failed_receipt(change, Rejected("", ""), self.clock.now_ms()), reason=None)
        self.log.receipts([replace(receipt, stage=ReceiptStage.PARSED)])


def _change(upload: Upload, record: Inbound, parsed: ParsedText | None) -> DocumentChange:
    return DocumentChange(
        tenant=upload.tenant,
        knowledge_base=upload.knowledge_base,
        document_id=upload.document_id,
        operation=Operation.UPSERT,
        position=log_position(record.topic, record.partition, record.offset, record.timestamp_ms),
        origin=Origin("upload", "uploads", upload.filename, record.topic, record.partition, record.offset),
        text=parsed.text if parsed else None,
        blocks=[Block(b.kind, b.start, b.end, b.level, b.page) for b in parsed.blocks] if parsed else None,
        title=upload.title or (parsed.title if parsed else None) or upload.filename,
        metadata={"filename": upload.filename, "type": upload.kind, **upload.metadata},
        access=access_names(upload.access),
        upload_id=upload.upload_id,
        request_id=upload.request_id,
    )
