"""Records, their Avro schemas and their bytes agree."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import pytest

from schemas.catalog import RECORD_TYPES, CatalogError, avro_schema, parse_topic, topics
from schemas.codec import Codec, DecodeError, UnknownSchema
from schemas.records import (
    AuditEntry,
    Block,
    DocumentChange,
    Embedding,
    Event,
    Operation,
    Origin,
    Position,
    Receipt,
    ReceiptStage,
    document_key,
    split_document_key,
)
from tests.support.lookup import LocalLookup

CHANGE = DocumentChange(
    tenant="t",
    knowledge_base="kb",
    document_id="a/b",
    operation=Operation.UPSERT,
    position=Position("cdc/s", 1, 2, 1, 3),
    origin=Origin("cdc", "s", "1", "cdc.s.public.t", 0, 7),
    text="Größe 中文 \U0001f41f",
    blocks=[Block("heading", 0, 5, 1, None), Block("paragraph", 7, 9, 0, 2)],
    metadata={"n": 1, "f": 1.5, "s": "x", "b": True, "l": ["a", "b"], "none": None},
    access=["group"],
)
EXAMPLES = [
    ("documents", CHANGE),
    ("documents", dataclasses.replace(CHANGE, operation=Operation.BARRIER, text=None, blocks=None, access=None)),
    ("events", Event("t", "kb", "id", delete=True)),
    ("receipts", Receipt("t", "kb", "d", ReceiptStage.FAILED, "events/0@1", "v", "s", reason="corrupt")),
    ("embeddings", Embedding("t", "model", "hash", struct.pack("<3f", 1, 2, 3))),
    ("audit", AuditEntry(1, "who", "what", "which", "done", detail={"a": "b"})),
]


@pytest.mark.parametrize("record", sorted(RECORD_TYPES))
def test_each_record_has_the_fields_of_its_schema(record: str) -> None:
    """Names, order and optionality are the same in the dataclass and in the .avsc file."""
    schema, kind = avro_schema(record), RECORD_TYPES[record]

    assert schema["name"] == record
    assert [field["name"] for field in schema["fields"]] == [field.name for field in dataclasses.fields(kind)]
    with_default = [field["name"] for field in schema["fields"] if "default" in field]
    assert with_default == [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    ]


@pytest.mark.parametrize(("topic", "record"), EXAMPLES)
def test_a_record_comes_back_as_it_was(topic: str, record: object) -> None:
    """Encoded and decoded, nested records, enums, unions and None included."""
    codec = Codec(LocalLookup())

    assert codec.decode(codec.encode(topic, record), type(record)) == record  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [b"", b"\x00", b"{}", b"\x01\x00\x00\x00\x01x", b"\x00\x00\x00\x00\x03\xff\xff"])
def test_bytes_that_are_no_record_are_refused(value: bytes) -> None:
    """Whatever lies in a topic, decoding raises DecodeError and nothing else."""
    with pytest.raises(DecodeError):
        Codec(LocalLookup()).decode(value, DocumentChange)


def test_trailing_bytes_are_refused() -> None:
    """A record followed by more is not a record."""
    codec = Codec(LocalLookup())

    with pytest.raises(DecodeError):
        codec.decode(codec.encode("documents", CHANGE) + b"x", DocumentChange)


def test_an_unknown_schema_id_is_told_apart() -> None:
    """It may become known later, so it is worth another look."""
    with pytest.raises(UnknownSchema):
        Codec(LocalLookup()).decode(b"\x00\x00\x00\xff\xff....", DocumentChange)


def test_a_topic_refuses_another_record() -> None:
    """The catalog says which record a topic carries."""
    with pytest.raises(ValueError, match="carries Event"):
        Codec(LocalLookup()).encode("events", CHANGE)


def test_a_record_of_an_older_schema_is_read_with_defaults() -> None:
    """A rebuild reads what earlier versions wrote: a field they lacked gets its default."""
    lookup = LocalLookup()
    schema = avro_schema("DocumentChange")
    older = {**schema, "fields": [f for f in schema["fields"] if f["name"] not in ("captured_ms", "filterable")]}
    lookup.add(900, older)
    codec = Codec(lookup)
    import io

    import fastavro

    out = io.BytesIO(struct.pack(">bI", 0, 900))
    out.seek(5)
    body = {
        k: v
        for k, v in codec.decode_any(codec.encode("documents", CHANGE)).items()
        if k not in ("captured_ms", "filterable")
    }
    fastavro.schemaless_writer(out, fastavro.parse_schema(older), body)

    assert codec.decode(out.getvalue(), DocumentChange) == CHANGE


def test_every_schema_belongs_to_a_topic() -> None:
    """No orphan schema, no topic without a schema but the raw one."""
    used = {topic.record for topic in topics().values() if topic.record}

    assert used == set(RECORD_TYPES)
    assert len(list(Path("schemas/avro").glob("*.avsc"))) == len(used)
    assert [topic.name for topic in topics().values() if topic.record is None] == ["dead-letters"]


@pytest.mark.parametrize("change", [("purpose: x", "purpos: x"), ("record: null", "record: Nothing")])
def test_a_topic_file_with_a_mistake_is_refused(change: tuple[str, str]) -> None:
    """An unknown field or record names itself."""
    text = "name: x\npurpose: x\nwriters: []\nreaders: []\nkey: k\nrecord: null\npartitions: 1\nconfig: {}\n"
    assert parse_topic(text, "x.yaml").name == "x"

    with pytest.raises(CatalogError, match=r"x\.yaml"):
        parse_topic(text.replace(*change), "x.yaml")


def test_positions_order_by_numbers_in_a_stream_and_by_time_between_streams() -> None:
    """A clock never decides within a stream."""
    early = Position("cdc/a", 1, 10, 1, at_ms=999)
    late = Position("cdc/a", 1, 11, 1, at_ms=1)
    other = Position("events/0", 1, 1, 0, at_ms=500)

    assert late.newer_than(early)
    assert not early.newer_than(late)
    assert not early.newer_than(early)
    assert Position("cdc/a", 2, 0, 0, 0).newer_than(late)
    assert other.newer_than(late)
    assert early.newer_than(other)


def test_document_keys_come_apart_again() -> None:
    """A document's id may hold slashes; tenant and knowledge base never do."""
    assert split_document_key(document_key("t", "kb", "a/b/c")) == ("t", "kb", "a/b/c")
