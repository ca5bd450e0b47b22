"""Kafka Connect with Debezium for PostgreSQL and the Avro converter: how rows become records.

Before: `kafka` is ready. After: `connectors` puts connectors through its REST API.
"""

from __future__ import annotations

from deploy.local import http_probe, java
from deploy.local.kafka import MESSAGE_MAX_BYTES
from deploy.local.server import Context, Server, properties

# What a connector may say about its own producer, and nothing else.
PRODUCER_OVERRIDES = ("max.request.size", "linger.ms", "batch.size", "buffer.memory", "compression.type")


def server(context: Context) -> Server:
    """How the worker is run. Connectors and their offsets live in Kafka; it has no folder of its own."""
    url = f"http://127.0.0.1:{context.ports['connect']}"
    config = context.home.config / "connect.properties"
    logging = context.home.config / "connect-log4j2.properties"
    jvm = [str(context.parts["java"]), *java.options(context, "connect", 512, quick_compiler_only=True)]
    classpath = ["-cp", f"{context.parts['kafka']}/*", "org.apache.kafka.connect.cli.ConnectDistributed"]
    return Server(
        name="connect",
        scratch=java.temporary(context, "connect"),
        command=(*jvm, f"-Dlog4j2.configurationFile={logging}", *classpath, str(config)),
        files={config: properties(worker_settings(context)), logging: java.LOGGING + java.QUIET_LOGGERS},
        # Not `/`: that answers before the worker has joined its group and can take a connector.
        probe=lambda: probe(url),
        address={"url": url, "secrets": str(context.home.connector_secrets)},
        settings={"connect": {"url": url}},
        after=("kafka",),
    )


def probe(url: str) -> None:
    """Ready when the worker lists connectors. Raises `NotReadyError`."""
    http_probe.get(f"{url}/connectors")


def bootstrap(context: Context) -> str:
    """The broker that Java servers of this stack use: ours, or the one the user named."""
    return context.external.get("kafka") or f"127.0.0.1:{context.ports['kafka']}"


def worker_settings(context: Context) -> dict[str, object]:
    """connect-distributed.properties."""
    plugins = ",".join(str(context.parts[part]) for part in ("debezium", "avro-converter"))
    return {
        "bootstrap.servers": bootstrap(context),
        "group.id": "thalweg-connect",
        "config.storage.topic": "thalweg-connect-configs",
        "offset.storage.topic": "thalweg-connect-offsets",
        "status.storage.topic": "thalweg-connect-status",
        "config.storage.replication.factor": 1,
        "offset.storage.replication.factor": 1,
        "status.storage.replication.factor": 1,
        "offset.storage.partitions": 4,
        "status.storage.partitions": 2,
        "listeners": f"http://127.0.0.1:{context.ports['connect']}",
        "rest.advertised.host.name": "127.0.0.1",
        "rest.advertised.port": context.ports["connect"],
        "plugin.path": plugins,
        # Scanning every class instead costs 18 s a start; `parts` gives the one plugin without a service file one.
        "plugin.discovery": "service_load",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        # The index is idempotent, and transaction markers would leave every idle partition at lag 1 for ever.
        "exactly.once.source.support": "disabled",
        "offset.flush.interval.ms": 1000,
        "producer.max.request.size": MESSAGE_MAX_BYTES,
        "producer.buffer.memory": 2 * MESSAGE_MAX_BYTES,
        "producer.compression.type": "lz4",
        "connector.client.config.override.policy": "Allowlist",
        "connector.client.config.override.allowlist": ",".join(PRODUCER_OVERRIDES),
        # A connector's configuration is readable through REST and lies in a topic: it names where a password
        # is, `${file:PATH:KEY}` or `${directory:FOLDER:FILE}`, and only below this one folder.
        "config.providers": "file,directory",
        "config.providers.file.class": "org.apache.kafka.common.config.provider.FileConfigProvider",
        "config.providers.file.param.allowed.paths": context.home.connector_secrets,
        "config.providers.directory.class": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
        "config.providers.directory.param.allowed.paths": context.home.connector_secrets,
        # A worker that was killed is back at once; five minutes of waiting for it would stop capture.
        "scheduled.rebalance.max.delay.ms": 0,
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 3_000,
    }
