"""A row change or a published event becomes a document change. Pure: the caller decodes and looks things up.

Before this: a record of a CDC topic or of `events`. After this: `steps/capture.py` appends the change to `documents`.
Envelope: Debezium PostgreSQL connector, "Data change events".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.access_names import access_names
from schemas.document_names import wrong_name
from schemas.records import DocumentChange, Event, MetadataValue, Operation, Origin, Position
from schemas.source import SourceSpec

UNAVAILABLE = "__debezium_unavailable_value"
"""Stands for a long column that an UPDATE left alone, under REPLICA IDENTITY DEFAULT. Never text."""


class NotAChange(ValueError):
    """The record is no row change of this source; the text says what is missing."""


@dataclass(frozen=True)
class Row:
    """What a CDC record says: the operation, the row's key, the row where there is one, and where it stands.

    ends_snapshot: the table's last row of a snapshot.
    """

    operation: str  # c, u, d, r, t, m
    key: Mapping[str, Any]
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    position: Position
    ends_snapshot: bool = False


def read_envelope(spec: SourceSpec, key: Mapping[str, Any] | None, envelope: Mapping[str, Any], *, epoch: int) -> Row:
    """The row change in a Debezium envelope. Raises NotAChange."""
    source, operation = envelope.get("source"), envelope.get("op")
    if not isinstance(source, Mapping) or not isinstance(operation, str):
        raise NotAChange("no Debezium envelope: source or op is missing")
    lsn, at_ms = source.get("lsn"), source.get("ts_ms")
    if not isinstance(lsn, int) or not isinstance(at_ms, int):
        raise NotAChange("source.lsn or source.ts_ms is missing")
    before, after = envelope.get("before"), envelope.get("after")
    if not all(part is None or isinstance(part, Mapping) for part in (key, before, after)):
        raise NotAChange("the key, before or after is no row")
    position = Position(spec.stream, epoch, lsn, 0 if operation == "r" else 1, at_ms)
    last = operation == "r" and source.get("snapshot") in ("last", "last_in_data_collection")
    return Row(operation, key or {}, before, after, position, last)


def unavailable_columns(spec: SourceSpec, row: Row) -> tuple[str, ...]:
    """The columns this source uses whose value the record does not carry (nor its `before`)."""
    if row.after is None:
        return ()
    return tuple(
        column
        for column in spec.columns
        if _is_unavailable(row.after.get(column))
        # NULL there says nothing: what was left alone is long, and a key-only `before` is padded with NULLs.
        and (row.before is None or row.before.get(column) is None or _is_unavailable(row.before[column]))
    )


def document_id(spec: SourceSpec, key: Mapping[str, Any]) -> str:
    """`<source>:<key>`. Raises NotAChange.

    The values of a compound key are joined by commas; a comma or backslash within one has a backslash before it, so
    that no two rows have one id.
    """
    names = spec.key or tuple(key)
    if not names or any(key.get(name) is None for name in names):
        raise NotAChange(f"the record's key lacks {', '.join(names) or 'every column'}")
    values = [str(key[name]) for name in names]
    if len(values) > 1:
        values = [value.replace("\\", "\\\\").replace(",", "\\,") for value in values]
    return f"{spec.name}:{','.join(values)}"


def row_change(
    tenant: str, spec: SourceSpec, row: Row, origin: Origin, *, fetched: Mapping[str, Any] | None = None
) -> DocumentChange:
    """The document change of a row change. fetched: the row as the source holds it, where columns were unavailable.

    Raises NotAChange, also if a column that the source uses is still unavailable or is not in the row.
    """
    if row.operation == "t":
        return barrier(tenant, spec, row, origin)
    if row.operation not in ("c", "u", "d", "r"):
        raise NotAChange(f"op {row.operation} is no row change")
    identity = document_id(spec, row.key)
    delete = DocumentChange(
        tenant=tenant,
        knowledge_base=spec.knowledge_base,
        document_id=identity,
        operation=Operation.DELETE,
        position=row.position,
        origin=origin,
    )
    if row.operation == "d":
        return delete
    values = _values(spec, row, fetched)
    if spec.deleted is not None:
        mark = values[spec.deleted.column]
        if mark is not None and (spec.deleted.equals is None or str(mark) in spec.deleted.equals):
            return delete
    return DocumentChange(
        tenant=tenant,
        knowledge_base=spec.knowledge_base,
        document_id=identity,
        operation=Operation.UPSERT,
        position=row.position,
        origin=origin,
        text=spec.render_text(values),
        content_type=spec.content_type,
        title=None if spec.title is None or values[spec.title] is None else str(values[spec.title]),
        metadata={name: _metadata_value(values[column]) for name, column in (spec.metadata or {}).items()},
        filterable=None if spec.filterable is None else list(spec.filterable),
        access=None if spec.access is None else access_names(values[spec.access]),
    )


def barrier(tenant: str, spec: SourceSpec, row: Row, origin: Origin) -> DocumentChange:
    """The end of every document of the source that is older than this row: of a TRUNCATE, and of a snapshot."""
    return DocumentChange(
        tenant=tenant,
        knowledge_base=spec.knowledge_base,
        document_id=f"source:{spec.name}",
        operation=Operation.BARRIER,
        position=row.position,
        origin=origin,
    )


def log_position(topic: str, partition: int, offset: int, at_ms: int) -> Position:
    """The position of an event or an upload: its place in its topic."""
    return Position(f"{topic}/{partition}", 1, offset, 0, at_ms)


def event_change(event: Event, origin: Origin, *, timestamp_ms: int) -> DocumentChange:
    """The document change of a published event. Raises NotAChange if it has neither text nor `delete`, or no name."""
    if (wrong := wrong_name(event.tenant, event.knowledge_base, event.id)) is not None:
        raise NotAChange(f"the event cannot be a document: {wrong}")
    if event.text is None and not event.delete:
        raise NotAChange("the event has no text and is no deletion")
    return DocumentChange(
        tenant=event.tenant,
        knowledge_base=event.knowledge_base,
        document_id=event.id,
        operation=Operation.DELETE if event.delete else Operation.UPSERT,
        position=log_position(origin.topic, origin.partition, origin.offset, timestamp_ms),
        origin=origin,
        text=event.text,
        content_type=event.content_type,
        title=event.title,
        metadata=dict(event.metadata),
        access=access_names(event.access),
        request_id=event.request_id,
    )


def _values(spec: SourceSpec, row: Row, fetched: Mapping[str, Any] | None) -> dict[str, Any]:
    """The row's columns, each from `after`, else from `before`, else from the source."""
    if row.after is None:
        raise NotAChange(f"op {row.operation} carries no row")
    values: dict[str, Any] = {}
    for column in spec.columns:
        if column not in row.after:
            raise NotAChange(f"the row has no column {column!r}; the source {spec.name!r} uses it")
        value = row.after[column]
        if _is_unavailable(value):
            value = (row.before or {}).get(column)
            if value is None or _is_unavailable(value):
                if fetched is None or column not in fetched:
                    raise NotAChange(f"column {column!r} was left alone and its value could not be found")
                value = fetched[column]
        if isinstance(value, Mapping) or (
            isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value)
        ):
            raise NotAChange(f"column {column!r} is of a type that does not read as text; {spec.name!r} uses it")
        values[column] = value
    return values


def _is_unavailable(value: Any) -> bool:
    if isinstance(value, bytes):
        return value == UNAVAILABLE.encode()
    if isinstance(value, list | tuple):
        return any(_is_unavailable(item) for item in value)
    return bool(value == UNAVAILABLE)


def _metadata_value(value: Any) -> MetadataValue:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [str(item) for item in value if item is not None]
    return str(value)
