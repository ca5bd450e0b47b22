"""The records that topics carry, as frozen dataclasses: one for each file in `avro/` (a test keeps them equal).

Before this: nothing. After this: `codec.py` turns them into bytes and back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

MetadataValue = str | int | float | bool | list[str] | None
Metadata = Mapping[str, MetadataValue]


class Operation(StrEnum):
    """What a change does. BARRIER ends every document of its source that is older than its position."""

    UPSERT = "UPSERT"
    DELETE = "DELETE"
    BARRIER = "BARRIER"


class ReceiptStage(StrEnum):
    """How far a change came. The first three are progress; the others are terminal."""

    PARSED = "PARSED"
    CHUNKED = "CHUNKED"
    EMBEDDED = "EMBEDDED"
    INDEXED = "INDEXED"
    DELETED = "DELETED"
    SUPERSEDED = "SUPERSEDED"
    FAILED = "FAILED"

    @property
    def terminal(self) -> bool:
        """Nothing follows this receipt for the same change."""
        return self not in (ReceiptStage.PARSED, ReceiptStage.CHUNKED, ReceiptStage.EMBEDDED)


@dataclass(frozen=True)
class Position:
    """Where in its source a change stands: what decides which of two versions of a document is newer.

    stream: what numbers are comparable within: `cdc/<source>`, `events/<partition>`, `uploads/<partition>`.
    epoch:  grows when the stream's numbering starts anew (a replication slot was lost and made again).
    major:  LSN of a row change; offset of an event or upload.
    phase:  0 for a row of a snapshot, 1 for a streamed change; 0 for events and uploads. It outranks major: a change
            whose transaction was open while the slot was made is newer than the snapshot, though its LSN is smaller.
    at_ms:  when the source committed it, in milliseconds since 1970, as the log recorded it. It orders changes of
            one document that came by two different streams, between which no other order exists; within a stream
            it decides nothing.
    """

    stream: str
    epoch: int
    major: int
    phase: int
    at_ms: int

    @cached_property
    def version(self) -> str:
        """The position as a short text, unique within the document, which sorts as the numbers do."""
        return f"{self.stream}@{self.epoch:04d}.{self.phase}.{self.major:020d}"

    def newer_than(self, other: Position) -> bool:
        """True if this position beats the other: by its numbers in one stream, by source time between streams."""
        if self.stream == other.stream:
            return (self.epoch, self.phase, self.major) > (other.epoch, other.phase, other.major)
        return (self.at_ms, self.stream) > (other.at_ms, other.stream)

    def ends(self, other: Position) -> bool:
        """True if a barrier here ends what is at the other position: it reaches its own stream only."""
        return self.stream == other.stream and self.newer_than(other)


@dataclass(frozen=True)
class Block:
    """A stretch of a document's text with a role; start and end are character offsets, level is 1..6 for headings."""

    kind: str
    start: int
    end: int
    level: int = 0
    page: int | None = None


@dataclass(frozen=True)
class Origin:
    """Where a change came in: for `explain`, citations and dead letters.

    kind is `cdc`, `event` or `upload`; source the source's name (or the event's `source`); ref the row's key or the
    file's name; topic, partition and offset name the record that was captured.
    """

    kind: str
    source: str
    ref: str
    topic: str
    partition: int
    offset: int

    @property
    def receipt_position(self) -> str:
        """The position a caller was given when the input was accepted: `topic/partition@offset`."""
        return f"{self.topic}/{self.partition}@{self.offset}"


SNAPSHOT_END = "end of snapshot"
"""Origin.ref of the barrier that follows a snapshot's last row; the row has the receipt, the barrier has none."""


@dataclass(frozen=True)
class DocumentChange:
    """One change of one document: the record of the topic `documents`, the product's truth."""

    tenant: str
    knowledge_base: str
    document_id: str
    operation: Operation
    position: Position
    origin: Origin
    text: str | None = None
    content_type: str = "text/plain"
    blocks: list[Block] | None = None
    title: str | None = None
    metadata: dict[str, MetadataValue] = field(default_factory=dict)
    filterable: list[str] | None = None
    access: list[str] | None = None
    upload_id: str | None = None
    request_id: str | None = None
    captured_ms: int = 0

    @property
    def key(self) -> str:
        """`tenant/knowledge base/document`: the record's key, and the document's name in the index."""
        return document_key(self.tenant, self.knowledge_base, self.document_id)


@dataclass(frozen=True)
class Event:
    """A document published by a source system: the record of the topic `events`."""

    tenant: str
    knowledge_base: str
    id: str
    delete: bool = False
    text: str | None = None
    content_type: str = "text/plain"
    title: str | None = None
    metadata: dict[str, MetadataValue] = field(default_factory=dict)
    access: list[str] | None = None
    source: str = "events"
    request_id: str | None = None

    @property
    def key(self) -> str:
        """As DocumentChange.key: events of one document stay in one partition."""
        return document_key(self.tenant, self.knowledge_base, self.id)


@dataclass(frozen=True)
class Upload:
    """An accepted file (a claim check: the bytes are in the blob store): the record of the topic `uploads`."""

    upload_id: str
    tenant: str
    knowledge_base: str
    document_id: str
    filename: str
    kind: str
    size: int
    sha256: str
    blob: str
    title: str | None = None
    metadata: dict[str, MetadataValue] = field(default_factory=dict)
    access: list[str] | None = None
    request_id: str | None = None
    received_ms: int = 0

    @property
    def key(self) -> str:
        """As DocumentChange.key."""
        return document_key(self.tenant, self.knowledge_base, self.document_id)


class UploadKeyStep(StrEnum):
    """What happened to an Idempotency-Key: a replica is at work, the upload is accepted, the replica gave up."""

    CLAIMED = "CLAIMED"
    ACCEPTED = "ACCEPTED"
    RELEASED = "RELEASED"


@dataclass(frozen=True)
class UploadKey:
    """A step in the life of an upload's Idempotency-Key: the record of the topic `upload-keys`.

    fingerprint is of the request that the key belongs to, holder the process that is at work; at_ms is its clock, in
    milliseconds since 1970. position is what was answered, once it is accepted.
    """

    upload_id: str
    fingerprint: str
    holder: str
    step: UploadKeyStep
    at_ms: int
    position: str | None = None

    @property
    def key(self) -> str:
        """The upload's id, which is made of tenant, caller and Idempotency-Key."""
        return self.upload_id


@dataclass(frozen=True)
class Receipt:
    """How far a change came, and when: the record of the topic `receipts`.

    accepted is the position the caller was given (`topic/partition@offset`); version that of the document.
    reason is set when stage is FAILED. source_ms and receipt_ms are the source's commit and now, milliseconds.
    """

    tenant: str
    knowledge_base: str
    document_id: str
    stage: ReceiptStage
    accepted: str
    version: str
    source: str
    generation: str | None = None
    upload_id: str | None = None
    chunks: int = 0
    embedded: int = 0
    reused: int = 0
    reason: str | None = None
    request_id: str | None = None
    source_ms: int = 0
    receipt_ms: int = 0

    @property
    def key(self) -> str:
        """As DocumentChange.key."""
        return document_key(self.tenant, self.knowledge_base, self.document_id)


@dataclass(frozen=True)
class Embedding:
    """A computed vector, kept so that a lost index is rebuilt without one call: the record of `embeddings`.

    vector is little-endian float32; model is ModelFingerprint.key().
    """

    tenant: str
    model: str
    text_hash: str
    vector: bytes

    @property
    def key(self) -> str:
        """`tenant/model/text hash`."""
        return f"{self.tenant}/{self.model}/{self.text_hash}"


@dataclass(frozen=True)
class SourceDefinition:
    """A source as it was applied (its YAML, checked): the record of the topic `sources`, which capture reads."""

    tenant: str
    name: str
    definition: str
    epoch: int = 1
    removed: bool = False

    @property
    def key(self) -> str:
        """`tenant/source`."""
        return f"{self.tenant}/{self.name}"


@dataclass(frozen=True)
class AccessEntry:
    """A user, an API key or a knowledge base: the record of the topic `access`. body is JSON (see runtime/access)."""

    kind: str
    id: str
    body: str
    deleted: bool = False

    @property
    def key(self) -> str:
        """`kind/id`."""
        return f"{self.kind}/{self.id}"


@dataclass(frozen=True)
class AuditEntry:
    """Who did what to what, and with which outcome: the record of the topic `audit`.

    kind and outcome are words of `runtime/audit.py`; empty kind: written before there were kinds. No field ever holds
    a text that was indexed or asked.
    """

    at_ms: int
    actor: str
    action: str
    resource: str
    outcome: str
    tenant: str = ""
    request_id: str | None = None
    detail: dict[str, str] = field(default_factory=dict)
    kind: str = ""

    @property
    def key(self) -> str:
        """The tenant, so that one tenant's audit stays in order."""
        return self.tenant


@dataclass(frozen=True)
class Feedback:
    """What somebody thought of an answer: the record of the topic `feedback`. rating is 1 to 5, 5 the best.

    answer_id is what `POST /v1/query` called the answer; at_ms is the query API's clock, in milliseconds since 1970.
    """

    answer_id: str
    tenant: str
    subject: str
    rating: int
    comment: str | None = None
    at_ms: int = 0

    @property
    def key(self) -> str:
        """`tenant/answer/who`: who rates again replaces the earlier rating."""
        return f"{self.tenant}/{self.answer_id}/{self.subject}"


Record = (
    DocumentChange
    | Event
    | Upload
    | UploadKey
    | Receipt
    | Embedding
    | SourceDefinition
    | AccessEntry
    | AuditEntry
    | Feedback
)


def document_key(tenant: str, knowledge_base: str, document_id: str) -> str:
    """`tenant/knowledge base/document`. The first two never hold a slash, the document id may."""
    return f"{tenant}/{knowledge_base}/{document_id}"


def split_document_key(key: str) -> tuple[str, str, str]:
    """The three parts of a document key. Raises ValueError if it is none."""
    tenant, knowledge_base, document_id = key.split("/", 2)
    return tenant, knowledge_base, document_id
