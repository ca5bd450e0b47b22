"""A document as people and programs send it (JSON): checked here once, for the command and for the API alike.

Before this: JSON lines, HTTP bodies, CloudEvents. After this: an Event on the topic `events`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime.web.problem_fields import FieldError, field_errors
from schemas.access_names import MAX_NAME, access_name, access_names
from schemas.document_names import RESERVED
from schemas.records import Event, MetadataValue

MAX_TEXT_BYTES = 33_554_432
"""Longest text of one document in UTF-8 (32 MiB), so that it fits into one record."""

_KNOWLEDGE_BASE = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_LONG = 2**63


class DocumentRefused(ValueError):
    """A document is not valid; errors name each field, what is wrong with it and how to mend it."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field} {error.message}: {error.fix}" for error in errors))
        self.errors = tuple(errors)


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half of a surrogate pair at character {error.start}; send whole characters") from error
    return text


def _no_controls(text: str) -> str:
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise ValueError("control characters are not allowed; take them out")
    return _unicode(text)


def free_id(text: str) -> str:
    """The id, if it is not one of ours. Raises ValueError."""
    if text.startswith(RESERVED):
        raise ValueError(f"begins with {RESERVED!r}, which is ours; give it another id")
    return text


def _text(text: str) -> str:
    if len(_unicode(text).encode()) > MAX_TEXT_BYTES:
        raise ValueError(f"longer than {MAX_TEXT_BYTES} bytes; split the document")
    return text


def _metadata(values: dict[str, MetadataValue]) -> dict[str, MetadataValue]:
    for key, value in values.items():
        if not _KEY.fullmatch(key):
            raise ValueError(f"the key {key[:80]!r} is not 1-63 letters, digits, _ with a letter or _ first; rename it")
        if isinstance(value, int) and not -_LONG <= value < _LONG:
            raise ValueError(f"{key}: beyond 64 bits; send it as text")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key}: not a finite number; leave it out")
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                _unicode(text)
    return values


def _access(names: list[str]) -> list[str]:
    if any(access_name(name) is None or "," in name for name in names):
        raise ValueError("a name is empty or holds a comma; name users or groups one by one")
    return access_names(names) or []


Name = Annotated[str, Field(max_length=MAX_NAME), AfterValidator(_no_controls)]
DocumentId = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_no_controls), AfterValidator(free_id)]
KnowledgeBaseName = Annotated[str, Field(pattern=_KNOWLEDGE_BASE, description="1-100 letters, digits, _ . -")]
Title = Annotated[str, Field(max_length=1000), AfterValidator(_unicode)]
Metadata = Annotated[dict[str, MetadataValue], Field(max_length=100), AfterValidator(_metadata)]
Access = Annotated[list[Name], Field(max_length=1000), AfterValidator(_access)]


class DocumentBody(BaseModel):
    """One document. access: who may read it; absent, whoever may read the knowledge base; empty, nobody."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, AfterValidator(_text)]
    knowledge_base: KnowledgeBaseName
    title: Title | None = None
    content_type: Literal["text/plain", "text/markdown"] = "text/plain"
    metadata: Metadata = {}
    access: Access | None = None


class NamedDocument(DocumentBody):
    """One document with its id."""

    id: DocumentId


class PublishedDocument(BaseModel):
    """A line of `thalweg publish`, or the data of a CloudEvent: a document, or with `delete` the end of one."""

    model_config = ConfigDict(extra="forbid")

    id: DocumentId
    text: Annotated[str, AfterValidator(_text)] | None = None
    knowledge_base: KnowledgeBaseName
    title: Title | None = None
    content_type: Literal["text/plain", "text/markdown"] = "text/plain"
    metadata: Metadata = {}
    access: Access | None = None
    delete: bool = False

    @model_validator(mode="after")
    def _text_or_delete(self) -> PublishedDocument:
        if self.text is None and not self.delete:
            raise ValueError("text is missing; add it, or `delete: true` to remove the document")
        return self


def parse_published(raw: Any, *, knowledge_base: str | None = None) -> PublishedDocument:
    """A document from plain JSON values; knowledge_base stands in where it names none. Raises DocumentRefused."""
    if isinstance(raw, dict) and knowledge_base is not None:
        raw = {"knowledge_base": knowledge_base, **raw}
    try:
        return PublishedDocument.model_validate(raw)
    except ValidationError as error:
        raise DocumentRefused(field_errors(error.errors())) from error


def to_event(
    document: PublishedDocument | DocumentBody,
    *,
    tenant: str,
    document_id: str,
    source: str,
    request_id: str | None = None,
) -> Event:
    """The record that says it. A deletion carries nothing but names."""
    if isinstance(document, PublishedDocument) and document.delete:
        return Event(tenant, document.knowledge_base, document_id, delete=True, source=source, request_id=request_id)
    return Event(
        tenant=tenant,
        knowledge_base=document.knowledge_base,
        id=document_id,
        text=document.text,
        content_type=document.content_type,
        title=document.title,
        metadata=dict(document.metadata),
        access=document.access,
        source=source,
        request_id=request_id,
    )
