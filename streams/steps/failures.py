"""The receipt of a change that was parked, for whoever waits for it."""

from __future__ import annotations

from schemas.records import DocumentChange, Receipt, ReceiptStage
from streams.core.outcomes import Rejected


def failed_receipt(change: DocumentChange, outcome: Rejected, now_ms: int) -> Receipt:
    """A terminal receipt with the reason; the detail names no text of the document."""
    return Receipt(
        tenant=change.tenant,
        knowledge_base=change.knowledge_base,
        document_id=change.document_id,
        stage=ReceiptStage.FAILED,
        accepted=change.origin.receipt_position,
        version=change.position.version,
        source=change.origin.source,
        upload_id=change.upload_id,
        reason=f"{outcome.reason}: {outcome.detail}"[:500],
        request_id=change.request_id,
        source_ms=change.position.at_ms,
        receipt_ms=now_ms,
    )
