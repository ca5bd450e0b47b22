"""A checked source as the configuration of its Debezium connector. Pure: names in, a mapping of strings out.

Before this: `preflight.py`. After this: `plan.py` compares it with what runs. Properties: Debezium's reference of the
PostgreSQL connector (3.7) and Kafka Connect's of source connectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from connectors.database import HEARTBEAT_TABLE, Address
from connectors.preflight import CheckedSource

EPOCH_HEADER = "thalweg.epoch"
"""Each change carries its source's epoch in this header (a decimal number as text)."""

EPOCH_PROPERTY = "transforms.epoch.value.literal"
SECRETS = ("database.password",)
CONNECTOR_CLASS = "io.debezium.connector.postgresql.PostgresConnector"
_CONVERTER = "io.apicurio.registry.utils.converter.AvroConverter"
_MAX_RECORD_BYTES = 41_943_040
_RETENTION_MS = 604_800_000


def object_name(source: str) -> str:
    """The name of a source's publication and of its slot: `thalweg_<name>`."""
    return f"thalweg_{source}"


def published_tables(checked: CheckedSource) -> frozenset[str]:
    """What the source's publication carries: its table, and the heartbeat table."""
    return frozenset({f"{checked.spec.schema}.{checked.spec.table}", f"public.{HEARTBEAT_TABLE}"})


def connector_config(
    checked: CheckedSource, address: Address, *, epoch: int, registry_url: str, password_reference: str | None = None
) -> dict[str, str]:
    """The connector's whole configuration.

    registry_url is Apicurio's own API as the Connect worker reaches it. password_reference, such as
    `${file:/run/secrets/database.properties:password}`, is resolved by the worker, so that its REST API never shows
    the password; without one, the address's own password goes into the configuration.
    """
    spec = checked.spec
    config = {
        "connector.class": CONNECTOR_CLASS,
        "tasks.max": "1",
        "database.hostname": address.host,
        "database.port": str(address.port),
        "database.dbname": address.name,
        "database.user": address.user,
        "topic.prefix": spec.topic_prefix,
        # The list holds regular expressions.
        "table.include.list": re.escape(f"{spec.schema}.{spec.table}"),
        "plugin.name": "pgoutput",
        # We make publications ourselves, with two tables each: the connector's own default would take every table.
        "publication.name": object_name(spec.name),
        "publication.autocreate.mode": "disabled",
        "slot.name": object_name(spec.name),
        "slot.drop.on.stop": "false",
        # A slot that was made again has a gap before it: fail, so that `sources apply` takes a new snapshot.
        "offset.mismatch.strategy": "trust_offset",
        "snapshot.mode": "initial" if spec.snapshot else "no_data",
        "poll.interval.ms": "50",
        "skipped.operations": "none",
        "tombstones.on.delete": "true",
        "decimal.handling.mode": "string",
        "time.precision.mode": "isostring",
        "interval.handling.mode": "string",
        "binary.handling.mode": "base64",
        "include.unknown.datatypes": "false",
        "schema.name.adjustment.mode": "avro",
        "event.processing.failure.handling.mode": "fail",
        # Four headers a record that say which connector wrote it: the topic says so already.
        "extended.headers.enabled": "false",
    }
    if address.sslmode is not None:
        config["database.sslmode"] = address.sslmode
    if secret := password_reference or address.password:
        config["database.password"] = secret
    if not checked.key_is_primary:
        config["message.key.columns"] = f"{re.escape(f'{spec.schema}.{spec.table}')}:{','.join(spec.key)}"
    return config | _heartbeat(spec.name) | _epoch(epoch) | _converters(registry_url) | _producer() | _topics()


def epoch_of(config: Mapping[str, str]) -> int:
    """The epoch that a connector's configuration stamps on its changes; 0 if it stamps none."""
    text = config.get(EPOCH_PROPERTY, "")
    return int(text) if text.isdecimal() else 0


def _heartbeat(source: str) -> dict[str, str]:
    """A touched row every 10 s moves the slot on while the table is quiet, so that the log can be let go."""
    return {
        "heartbeat.interval.ms": "10000",
        "heartbeat.action.query": (
            # A source's name holds only a-z, 0-9 and _ (schemas/source.py).
            f"INSERT INTO public.{HEARTBEAT_TABLE} (source, at) VALUES ('{source}', now()) "  # noqa: S608
            "ON CONFLICT (source) DO UPDATE SET at = EXCLUDED.at"
        ),
    }


def _epoch(epoch: int) -> dict[str, str]:
    return {
        "transforms": "epoch",
        "transforms.epoch.type": "org.apache.kafka.connect.transforms.InsertHeader",
        "transforms.epoch.header": EPOCH_HEADER,
        EPOCH_PROPERTY: str(epoch),
    }


def _converters(registry_url: str) -> dict[str, str]:
    """Avro in the Confluent wire format: 4-byte schema ids, nothing in headers."""
    settings = {
        "apicurio.registry.url": registry_url,
        "apicurio.registry.auto-register": "true",
        "apicurio.registry.find-latest": "true",
        "apicurio.registry.headers.enabled": "false",
        # The Confluent-compatible API looks schemas up by content. The default, an id for each registration, differs
        # from it as soon as two topics share a schema (Debezium's heartbeats do), and then names another schema.
        "apicurio.registry.use-id": "contentId",
        "apicurio.registry.id-handler": "io.apicurio.registry.serde.Legacy4ByteIdHandler",
    }
    config = {}
    for side in ("key", "value"):
        config[f"{side}.converter"] = _CONVERTER
        config |= {f"{side}.converter.{name}": value for name, value in settings.items()}
    return config


def _producer() -> dict[str, str]:
    """Rows may be large, and freshness counts: a change waits at most 2 ms for company."""
    return {
        "producer.override.max.request.size": str(_MAX_RECORD_BYTES),
        "producer.override.buffer.memory": str(2 * _MAX_RECORD_BYTES),
        "producer.override.linger.ms": "2",
        "producer.override.compression.type": "lz4",
    }


def _topics() -> dict[str, str]:
    """Never compacted: a TRUNCATE has no key, and a broker refuses a record without key on a compacted topic, which
    would stop the connector. Seven days are enough, as `documents` is what a rebuild replays.
    """
    return {
        "topic.creation.default.partitions": "3",
        "topic.creation.default.replication.factor": "1",
        "topic.creation.default.cleanup.policy": "delete",
        "topic.creation.default.retention.ms": str(_RETENTION_MS),
        "topic.creation.default.max.message.bytes": str(_MAX_RECORD_BYTES),
        "topic.creation.default.compression.type": "producer",
    }
