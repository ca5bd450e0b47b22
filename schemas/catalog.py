"""The topics, read from `topics/*.yaml`: purpose, who writes, who reads, key, record, partitions, configuration.

Before this: `records.py`. After this: `codec.py` (bytes), `commands.py` (`topics apply` makes them on a broker).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from schemas import records

RECORD_TYPES: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        records.DocumentChange,
        records.Event,
        records.Upload,
        records.UploadKey,
        records.Receipt,
        records.Embedding,
        records.SourceDefinition,
        records.AccessEntry,
        records.AuditEntry,
        records.Feedback,
    )
}

_FIELDS = {"name", "purpose", "writers", "readers", "key", "record", "partitions", "config"}


class CatalogError(ValueError):
    """A topic file says something that is no topic; the text names the file and the field."""


@dataclass(frozen=True)
class Topic:
    """One topic as its file declares it. record is the name of a dataclass in records.py, or None for raw bytes."""

    name: str
    purpose: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    key: str
    record: str | None
    partitions: int
    config: Mapping[str, str]

    @property
    def subject(self) -> str:
        """The registry's subject for the value (TopicNameStrategy)."""
        return f"{self.name}-value"


def parse_topic(text: str, file: str) -> Topic:
    """One topic from its YAML. Raises CatalogError for an unknown or missing field, or an unknown record."""
    raw = yaml.safe_load(text)
    if not isinstance(raw, dict):
        raise CatalogError(f"{file}: not a mapping")
    unknown, missing = set(raw) - _FIELDS, _FIELDS - set(raw)
    if unknown or missing:
        raise CatalogError(f"{file}: unknown fields {sorted(unknown)}, missing fields {sorted(missing)}")
    if raw["record"] is not None and raw["record"] not in RECORD_TYPES:
        raise CatalogError(f"{file}: record: no dataclass {raw['record']!r} in schemas/records.py")
    return Topic(
        name=raw["name"],
        purpose=raw["purpose"],
        writers=tuple(raw["writers"]),
        readers=tuple(raw["readers"]),
        key=raw["key"],
        record=raw["record"],
        partitions=int(raw["partitions"]),
        config={key: str(value) for key, value in raw["config"].items()},
    )


@cache
def topics() -> Mapping[str, Topic]:
    """All topics by name."""
    folder = resources.files("schemas.topics")
    found = {}
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".yaml"):
            topic = parse_topic(file.read_text(encoding="utf-8"), file.name)
            if file.name != f"{topic.name}.yaml":
                raise CatalogError(f"{file.name}: name: {topic.name!r} is not the file's name")
            found[topic.name] = topic
    if not found:
        raise CatalogError("schemas/topics holds no topic")
    return found


@cache
def avro_schema(record: str) -> dict[str, Any]:
    """The Avro schema of a record type, by the dataclass's name."""
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in record).lstrip("_")
    text = resources.files("schemas.avro").joinpath(f"{snake}.avsc").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
