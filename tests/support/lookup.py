"""SchemaLookup without a registry: our own schemas under ids of their own, and foreign ones that a test adds."""

from __future__ import annotations

from typing import Any

from schemas.catalog import avro_schema, topics


class LocalLookup:
    """Ids count from 1 in the order of the topics' names."""

    def __init__(self) -> None:
        self._topics = [topic for topic in topics().values() if topic.record is not None]
        self._foreign: dict[int, dict[str, Any]] = {}

    def id_of(self, subject: str) -> int:
        """As SchemaLookup.id_of."""
        return [topic.subject for topic in self._topics].index(subject) + 1

    def schema_by_id(self, schema_id: int) -> dict[str, Any]:
        """As SchemaLookup.schema_by_id."""
        if schema_id in self._foreign:
            return self._foreign[schema_id]
        if not 1 <= schema_id <= len(self._topics):
            raise KeyError(schema_id)
        record = self._topics[schema_id - 1].record
        assert record is not None
        return avro_schema(record)

    def add(self, schema_id: int, schema: dict[str, Any]) -> None:
        """A schema that some other program registered."""
        self._foreign[schema_id] = schema
