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
from collections.abc import Callable
from enum import Enum
from functools import cache, partial
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
        build = _builder(cast(Any, kind))
        assert build is not None  # noqa: S101  a record is a dataclass
        return cast(R, build(body))

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


_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})


@cache
def _fields(kind: type) -> tuple[str, ...]:
    """The names of a dataclass's fields; none of another type."""
    return tuple(item.name for item in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()


def _plain(value: Any) -> Any:
    kind: Any = type(value)
    if kind in _SCALARS:
        return value
    if names := _fields(kind):
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


Build = Callable[[Any], Any]


@cache
def _builder(kind: Any) -> Build | None:
    """Makes of a plain value what `kind` wants: nested dataclasses, enums and lists of them. None: it is that already.

    Looked up once for each type: every record that passes a stage is built and taken apart.
    """
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        return _builder(options[0]) if len(options) == 1 else None
    if origin is list:
        item = _builder(typing.get_args(kind)[0])
        return None if item is None else partial(_each, item)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        fields = {name: _builder(hint) for name, hint in typing.get_type_hints(kind).items()}
        return partial(_made, kind, fields)
    return None


def _each(item: Build, values: Any) -> Any:
    return [entry if entry is None else item(entry) for entry in values] if isinstance(values, list) else values


def _made(kind: type, fields: dict[str, Build | None], values: dict[str, Any]) -> Any:
    return kind(
        **{
            name: entry if entry is None or (build := fields[name]) is None else build(entry)
            for name, entry in values.items()
            if name in fields
        }
    )


assert all(dataclasses.is_dataclass(kind) for kind in RECORD_TYPES.values())  # noqa: S101
