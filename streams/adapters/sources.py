"""The applied sources as the capture worker sees them, and rows read from their databases.

Before this: `thalweg sources apply` writes the topic `sources`. After this: `steps/capture.py`. When the list of
sources changes, or a source's topic appears, the worker ends cleanly and its supervisor starts it anew: Faust's
subscription is made once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import psycopg
import structlog
from psycopg import sql
from psycopg.rows import dict_row

from runtime.topic_tail import TopicTail
from runtime.topics import BrokerUnavailable, Topics
from schemas.codec import Codec
from schemas.records import SourceDefinition
from schemas.source import SourceSpec, parse_source
from streams.ports import Misconfigured, PermanentFailure, TemporaryFailure
from streams.steps.capture import CapturedSource

log = structlog.get_logger()
_TOPIC = "sources"
_LOOK_S = 5.0


class SourceList:
    """Follows the topic `sources`."""

    def __init__(self, bootstrap: str, codec: Codec, topics: Topics) -> None:
        self._codec = codec
        self._topics = topics
        self._lock = threading.Lock()
        self._definitions: dict[str, SourceDefinition] = {}
        self._tail = TopicTail(bootstrap, _TOPIC, self._take)
        self._stopping = threading.Event()

    def start(self, timeout_s: float) -> dict[str, CapturedSource]:
        """Read the list and follow it; the sources whose topic exists, by topic. Raises BrokerUnavailable."""
        self._tail.start()
        if not self._tail.wait_caught_up(timeout_s):
            raise BrokerUnavailable("the topic `sources` could not be read: run `thalweg topics apply`")
        return self._captured()

    def watch(self, known: Mapping[str, CapturedSource], changed: Callable[[], None], *, every_s: float = 1.0) -> None:
        """Call `changed` once, from a thread, when the list differs from `known`."""

        def look() -> None:
            while not self._stopping.wait(every_s):
                try:
                    current = self._captured()
                except BrokerUnavailable:
                    continue
                if current != known:
                    log.info("sources_changed", topics=sorted(current))
                    changed()
                    return

        threading.Thread(target=look, name="sources-watch", daemon=True).start()

    def now(self) -> dict[str, CapturedSource]:
        """What the topic `sources` says at this moment, not what it said a second ago. Raises TemporaryFailure."""
        try:
            ends = self._topics.offsets([_TOPIC])
        except BrokerUnavailable as error:
            raise TemporaryFailure(str(error)) from error
        for (_, partition), end in ends.items():
            if not self._tail.wait_read(partition, end - 1, _LOOK_S):
                raise TemporaryFailure(f"the topic {_TOPIC} could not be read to its end")
        return self._applied()

    def topics_now(self) -> list[str]:
        """The topics of the sources applied at this moment. Raises BrokerUnavailable."""
        return sorted(self._captured())

    def close(self) -> None:
        """Stop following."""
        self._stopping.set()
        self._tail.close()

    def _captured(self) -> dict[str, CapturedSource]:
        existing = self._topics.partitions()
        return {topic: source for topic, source in self._applied().items() if topic in existing}

    def _applied(self) -> dict[str, CapturedSource]:
        with self._lock:
            definitions = list(self._definitions.values())
        found = {}
        for definition in definitions:
            spec = _parsed(definition.definition, definition.name)
            if not definition.removed:
                found[spec.topic] = CapturedSource(definition.tenant, spec)
        return found

    def _take(self, _partition: int, _offset: int, key: bytes | None, value: bytes | None) -> None:
        name = (key or b"").decode()
        with self._lock:
            if value is None:
                self._definitions.pop(name, None)
            else:
                self._definitions[name] = self._codec.decode(value, SourceDefinition)


@lru_cache(maxsize=1024)
def _parsed(text: str, name: str) -> SourceSpec:
    """Asked for every source with every batch; a file is read once."""
    return parse_source(text, name)


class PostgresRows:
    """RowReader: one connection a database, made when it is first needed and again after an error."""

    def __init__(self, default_dsn: str | None, environment: Mapping[str, str] | None = None) -> None:
        self._default = default_dsn
        self._environment = os.environ if environment is None else environment
        self._connections: dict[str, psycopg.Connection[dict[str, Any]]] = {}

    def read(self, spec: SourceSpec, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """As RowReader.read."""
        dsn = self._environment.get(spec.dsn_env, "") if spec.dsn_env else self._default
        if not dsn:
            name = spec.dsn_env or "THALWEG_POSTGRES__DSN"
            table = f"{spec.schema}.{spec.table}"
            fix = f"set {name}, or give {table} REPLICA IDENTITY FULL"
            raise PermanentFailure("toast_unresolved", f"a long column was left alone and is not in the record: {fix}")
        where = sql.SQL(" AND ").join(sql.SQL("{}::text = %s").format(sql.Identifier(name)) for name in key)
        query = sql.SQL("SELECT {} FROM {} WHERE {}").format(
            sql.SQL(", ").join(sql.Identifier(column) for column in spec.columns),
            sql.Identifier(spec.schema, spec.table),
            where,
        )
        try:
            row = self._connection(dsn).execute(query, [str(value) for value in key.values()]).fetchone()
        except psycopg.OperationalError as error:
            self._connections.pop(dsn, None)
            raise TemporaryFailure(f"PostgreSQL of source {spec.name}: {type(error).__name__}") from error
        except psycopg.errors.InsufficientPrivilege as error:
            table = f"{spec.schema}.{spec.table}"
            raise Misconfigured(f"PostgreSQL of source {spec.name}: GRANT SELECT ON {table} is missing") from error
        except psycopg.Error as error:
            raise PermanentFailure("toast_unresolved", f"{type(error).__name__}: {spec.schema}.{spec.table}") from error
        return row

    def _connection(self, dsn: str) -> psycopg.Connection[dict[str, Any]]:
        if dsn not in self._connections:
            self._connections[dsn] = psycopg.connect(
                dsn,
                autocommit=True,
                row_factory=dict_row,
                connect_timeout=10,
                options="-c statement_timeout=10000 -c default_transaction_read_only=on",
            )
        return self._connections[dsn]
