"""The fields of an upload's form, from text to values. Before this: `receive.py`. After this: `uploads.py`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from connectors.document_body import Access, DocumentId, Metadata, Title
from connectors.upload_api.receive import invalid_field, missing_field
from runtime.web.problem_fields import FieldError, field_errors
from runtime.web.problems import Problem
from schemas.access_names import access_names
from schemas.records import MetadataValue

FIELDS = ("knowledge_base", "document_id", "title", "metadata", "access")
_METADATA: TypeAdapter[dict[str, MetadataValue]] = TypeAdapter(Metadata)
_ACCESS: TypeAdapter[list[str]] = TypeAdapter(Access)
_ID: TypeAdapter[str] = TypeAdapter(DocumentId)
_TITLE: TypeAdapter[str] = TypeAdapter(Title)
T = TypeVar("T")


@dataclass(frozen=True)
class UploadForm:
    """What the caller says of the file."""

    knowledge_base: str
    document_id: str | None
    title: str | None
    metadata: dict[str, MetadataValue]
    access: list[str] | None


def parse_form(fields: dict[str, str]) -> UploadForm:
    """The values of the form's fields; an empty field is an absent one, but for `access`.

    An empty `access` is refused: an absent one may mean everyone, and whoever sends the field means to name somebody.
    Raises Problem naming field and fix.
    """
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise invalid_field(unknown[0][:80], "is not a known field", f"use only file, {', '.join(FIELDS)}")
    given = {name: text for name, text in fields.items() if text.strip()}
    if "access" in fields and "access" not in given:
        fix = "name who may read it, send [] for nobody, or leave it out and the knowledge base decides"
        raise invalid_field("access", "is empty", fix)
    if "knowledge_base" not in given:
        raise missing_field("knowledge_base", "add it: the knowledge base that the file goes to")
    document_id, title = given.get("document_id"), given.get("title")
    return UploadForm(
        knowledge_base=given["knowledge_base"].strip(),
        document_id=None if document_id is None else _checked(_ID, document_id, "document_id"),
        title=None if title is None else _checked(_TITLE, title, "title"),
        metadata=_checked(_METADATA, _object(given.get("metadata", "{}")), "metadata"),
        access=_access(given.get("access")),
    )


def _object(text: str) -> object:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise invalid_field("metadata", "is not JSON", 'send an object, such as {"year": 2026}') from error
    if not isinstance(value, dict):
        raise invalid_field("metadata", "is no JSON object", 'send one, such as {"year": 2026}')
    return value


def _access(text: str | None) -> list[str] | None:
    """A JSON list, or names with commas between them."""
    if text is None:
        return None
    names: object = access_names(text)
    if text.lstrip().startswith("["):
        try:
            names = json.loads(text)
        except ValueError as error:
            raise invalid_field("access", "is not JSON", 'send a list, such as ["alice"], or alice,bob') from error
    return _checked(_ACCESS, names, "access")


def _checked(kind: TypeAdapter[T], value: object, name: str) -> T:
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        found = [
            FieldError(".".join(filter(None, [name, item.field])), item.message, item.fix)
            for item in field_errors(error.errors())
        ]
        raise Problem("validation-failed", f"Not valid: {name}.", errors=found) from error
