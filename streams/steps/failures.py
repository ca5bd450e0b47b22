"""Errors as outcomes, and the receipt of a change that was parked, for whoever waits for it.

Before this: a step caught an error. After this: the loop waits, or parks the record.
"""

from __future__ import annotations

from runtime.embedding.contract import (
    EmbeddingError,
    EmbeddingMisconfigured,
    EmbeddingRejected,
    EmbeddingReplyInvalid,
    EmbeddingUnavailable,
)
from runtime.tracebacks import frames, named
from schemas.codec import DecodeError, UnknownSchema
from schemas.records import DocumentChange, Receipt, ReceiptStage
from schemas.registry import NotRegistered, RegistryUnavailable
from streams.core.changes import NotAChange
from streams.core.letters import NotRedriven
from streams.core.outcomes import Rejected, Retry
from streams.ports import Misconfigured, PermanentFailure, TemporaryFailure


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


def waits(error: TemporaryFailure) -> Retry:
    """Something is away, or a person has to act: the record waits as long as that lasts."""
    return Retry(str(error), error.after_s, configuration=isinstance(error, Misconfigured))


def defect(error: Exception) -> Retry:
    """Nobody foresaw this error: some more tries, then the record is parked with the place where it was raised.

    What it says is told only if the error is ours: any other may quote the document.
    """
    return Retry(named(error), limited=True, trace=frames(error))


def outcome_of(error: Exception) -> Rejected | Retry:
    """What an error says of the record that met it: never, later, when a person has acted, or a defect of ours."""
    match error:
        case UnknownSchema():
            return Retry(str(error), limited=True, reason="unknown_schema")
        case DecodeError():
            return Rejected("undecodable", str(error))
        case NotAChange():
            return Rejected("not_a_change", str(error))
        case NotRedriven():
            return Rejected("not_redriven", str(error))
        case PermanentFailure():
            return Rejected(error.reason, error.detail)
        case TemporaryFailure():
            return waits(error)
        case RegistryUnavailable():
            return Retry(str(error))
        case NotRegistered():
            return Retry(str(error), configuration=True)
        case EmbeddingError():
            return _of_the_model(error)
        case _:
            return defect(error)


def _of_the_model(error: EmbeddingError) -> Rejected | Retry:
    match error:
        case EmbeddingReplyInvalid():
            # Asked again it may be well; if not, one text may be the cause, and must not hold the others for ever.
            return Retry(str(error), limited=True, reason="embedding_invalid")
        case EmbeddingUnavailable():
            return Retry(str(error), error.retry_after)
        case EmbeddingMisconfigured():
            # A person has to act, and no record is at fault: nothing is parked, everything waits.
            return Retry(str(error), 30.0, configuration=True)
        case EmbeddingRejected():
            return Rejected("embedding_rejected", str(error))
        case _:
            return defect(error)
