"""Records to bytes and back, in the Confluent wire format: byte 0, schema id (4 bytes, big-endian), Avro body.

Before this: `catalog.py`, `records.py`. After this: `registry.py` knows the ids. Format: Confluent Schema Registry,
"Wire format".
"""

from __future__ import annotations

import dataclasses
import io
import struct
import types
import typing
from enum import Enum
from functools import cache
from typing import Any, Protocol, TypeVar, cast

import fastavro

from schemas.catalog import RECORD_TYPES, avro_schema, topics
from schemas.records import Record

R = TypeVar("R")


class DecodeError(ValueError):
    """These bytes are no record of ours: wrong framing, unknown schema id, or a body the schema does not fit."""


class UnknownSchema(DecodeError):
    """The registry knows no schema of this id. It may have been restored late: worth another look before giving up."""


class SchemaLookup(Protocol):
    """What the codec asks of a registry. Both may raise RegistryUnavailable (again later)."""

    def id_of(self, subject: str) -> int:
        """The id under which our schema of this subject is registered."""
        ...

    def schema_by_id(self, schema_id: int) -> dict[str, Any]:
        """The writer's schema. Raises KeyError if the registry knows no such id."""
        ...


class Codec:
    """Encodes our records for a topic and decodes what a topic holds. Thread-safe."""

    def __init__(self, lookup: SchemaLookup) -> None:
        self._lookup = lookup
        self._parsed: dict[int, Any] = {}

    def encode(self, topic: str, record: Record) -> bytes:
        """The record's bytes for this topic. Raises ValueError if the topic carries another record."""
        declared = topics()[topic]
        if declared.record != type(record).__name__:
            raise ValueError(f"topic {topic} carries {declared.record}, not {type(record).__name__}")
        out = io.BytesIO()
        out.write(struct.pack(">bI", 0, self._lookup.id_of(declared.subject)))
        fastavro.schemaless_writer(out, _own_schema(type(record).__name__), _plain(record))
        return out.getvalue()

    def decode(self, value: bytes, kind: type[R]) -> R:
        """The record of this kind, read with the writer's schema and ours. Raises DecodeError."""
        body = self._body(value, _own_schema(kind.__name__))
        return cast(R, _build(kind, body))

    def decode_any(self, value: bytes) -> dict[str, Any]:
        """A foreign record (a row change) as plain values, read with the writer's schema. Raises DecodeError."""
        return cast(dict[str, Any], self._body(value, None))

    def _body(self, value: bytes, reader: Any) -> Any:
        if len(value) < 5 or value[0] != 0:
            raise DecodeError(f"not in the Confluent wire format: {len(value)} bytes, first {value[:5].hex()!r}")
        (schema_id,) = struct.unpack(">I", value[1:5])
        writer = self._parsed.get(schema_id)
        if writer is None:
            try:
                writer = fastavro.parse_schema(self._lookup.schema_by_id(schema_id))
            except KeyError as error:
                raise UnknownSchema(f"the registry knows no schema {schema_id}") from error
            self._parsed[schema_id] = writer
        stream = io.BytesIO(value[5:])
        try:
            body = fastavro.schemaless_reader(stream, writer, reader)
        except Exception as error:
            raise DecodeError(f"schema {schema_id} does not fit: {type(error).__name__}") from error
        if not isinstance(body, dict):
            raise DecodeError(f"schema {schema_id} is no record")
        if stream.read(1):
            raise DecodeError(f"bytes are left over after schema {schema_id}'s record")
        return body


@cache
def _own_schema(record: str) -> Any:
    return fastavro.parse_schema(avro_schema(record))


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, value: Any) -> Any:
    """The value as `kind` wants it: nested dataclasses, enums and lists of them; other values as they are."""
    if value is None:
        return None
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        return _build(options[0], value) if len(options) == 1 else value
    if typing.get_origin(kind) is list and isinstance(value, list):
        (item,) = typing.get_args(kind)
        return [_build(item, entry) for entry in value]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        return kind(**{name: _build(hints[name], entry) for name, entry in value.items() if name in hints})
    return value


assert all(dataclasses.is_dataclass(kind) for kind in RECORD_TYPES.values())  # noqa: S101
