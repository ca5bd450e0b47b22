"""The schema registry over its Confluent-compatible API: ids for the codec, registration, compatibility.

Before this: `codec.py` (which asks). After this: `commands.py`.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import stamina
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas.catalog import Topic, avro_schema, topics

COMPATIBILITY = "BACKWARD_TRANSITIVE"
"""A rebuild reads every version a topic ever held, so each new schema must read all older ones."""


class RegistryUnavailable(Exception):
    """The registry did not answer, or with a server error: again later."""


class IncompatibleSchema(Exception):
    """The registry refuses a schema: the text names the subject and the registry's reason."""


class NotRegistered(Exception):
    """Our schema of a subject is not in the registry. `thalweg schemas register` puts it there."""


class Registry:
    """SchemaLookup over HTTP, with answers kept for the process's life (ids never change). Thread-safe."""

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        self._client = SchemaRegistryClient({"url": url, "timeout": timeout_s, "max.retries": 0})
        self._url = url
        self._ids: dict[str, int] = {}
        self._schemas: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def id_of(self, subject: str) -> int:
        """The id of our schema under this subject. Raises NotRegistered, RegistryUnavailable."""
        with self._lock:
            if subject not in self._ids:
                self._ids[subject] = self._find(subject)
            return self._ids[subject]

    def schema_by_id(self, schema_id: int) -> dict[str, Any]:
        """The schema registered under an id. Raises KeyError, RegistryUnavailable."""
        with self._lock:
            if schema_id not in self._schemas:
                try:
                    found = self._call(lambda: self._client.get_schema(schema_id))
                except SchemaRegistryError as error:
                    raise KeyError(schema_id) from error
                self._schemas[schema_id] = json.loads(found.schema_str)
            return self._schemas[schema_id]

    def close(self) -> None:
        """Give the connections back; the registry is not asked after it."""
        self._client.close()

    def check(self, topic: Topic) -> bool:
        """True if our schema of the topic may be registered beside all earlier ones (or is the first)."""
        schema = _own(topic)
        try:
            versions = self._call(lambda: self._client.get_versions(topic.subject))
        except SchemaRegistryError:
            return True
        return all(
            self._call(lambda v=version: self._client.test_compatibility(topic.subject, schema, version=v))
            for version in versions
        )

    def register(self, topic: Topic) -> int:
        """Register our schema of the topic, compatibility level included; the same schema twice is one id.

        Raises IncompatibleSchema, RegistryUnavailable.
        """
        if not self.check(topic):
            raise IncompatibleSchema(
                f"{topic.subject}: the schema in schemas/avro cannot read what earlier versions wrote; give new "
                "fields a default and never rename or retype one"
            )
        try:
            schema_id: int = self._call(lambda: self._client.register_schema(topic.subject, _own(topic)))
            self._call(lambda: self._client.set_compatibility(topic.subject, COMPATIBILITY))
        except SchemaRegistryError as error:
            raise IncompatibleSchema(f"{topic.subject}: {error.error_message}") from error
        return schema_id

    def _find(self, subject: str) -> int:
        topic = next(topic for topic in topics().values() if topic.subject == subject)
        try:
            registered = self._call(lambda: self._client.lookup_schema(subject, _own(topic)))
        except SchemaRegistryError as error:
            raise NotRegistered(
                f"{self._url} does not hold our schema of {subject}: run `thalweg schemas register`"
            ) from error
        return int(registered.schema_id)

    def _call(self, ask: Any) -> Any:
        """One request, tried again while the registry is away (at most about 10 s)."""
        for attempt in stamina.retry_context(on=RegistryUnavailable, attempts=6, timeout=10.0, wait_max=2.0):
            with attempt:
                try:
                    return ask()
                except SchemaRegistryError as error:
                    if error.http_status_code >= 500 or error.http_status_code in (0, 408, 429):
                        raise RegistryUnavailable(f"{self._url}: {error}") from error
                    raise
                except Exception as error:  # httpx's and socket's own errors: the registry is away
                    raise RegistryUnavailable(f"{self._url}: {type(error).__name__}") from error
        raise AssertionError("unreachable: the retry context raises its last error")


def _own(topic: Topic) -> Schema:
    if topic.record is None:
        raise ValueError(f"topic {topic.name} carries raw bytes and has no schema")
    return Schema(json.dumps(avro_schema(topic.record)), "AVRO")
