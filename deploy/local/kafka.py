"""The broker: one KRaft node that is its own controller, on the loopback address.

Before: `parts` (jars) and `ports`. After: everything; `connect` and `registry` wait for it.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
from base64 import urlsafe_b64encode
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.local import java
from deploy.local.errors import LocalStackError, NotReadyError
from deploy.local.server import Context, Server, properties

# A 25 MB text file as one document, with room; topics, producers and readers use the same number.
MESSAGE_MAX_BYTES = 41_943_040
FORMAT_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S = 3.0


def server(context: Context) -> Server:
    """How the broker is run. Its id and offsets live in `<home>/data/kafka`."""
    port = context.ports["kafka"]
    config = context.home.config / "kafka.properties"
    logging = context.home.config / "kafka-log4j2.properties"
    jvm = [str(context.parts["java"]), *java.options(context, "kafka", 512, quick_compiler_only=False)]
    classpath = ["-cp", f"{context.parts['kafka']}/*"]
    return Server(
        name="kafka",
        scratch=java.temporary(context, "kafka"),
        command=(*jvm, f"-Dlog4j2.configurationFile={logging}", *classpath, "kafka.Kafka", str(config)),
        files={config: properties(broker_settings(context)), logging: java.LOGGING + java.QUIET_LOGGERS},
        first_run=lambda: format_storage(context, config),
        probe=lambda: probe(f"127.0.0.1:{port}"),
        address={"bootstrap": f"127.0.0.1:{port}"},
        settings={"kafka": {"bootstrap": f"127.0.0.1:{port}"}},
        stop_s=30.0,
    )


def broker_settings(context: Context) -> dict[str, object]:
    """server.properties; each line that differs from Kafka's default for a reason."""
    broker, controller = context.ports["kafka"], context.ports["kafka_controller"]
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        # By id and address, not learnt: so the controller's port may change between two starts.
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{broker}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": _data(context),
        # Topics are made by `thalweg topics apply`: a typing error must not make one.
        "auto.create.topics.enable": "false",
        "message.max.bytes": MESSAGE_MAX_BYTES,
        "replica.fetch.max.bytes": MESSAGE_MAX_BYTES,
        # One broker: the internal topics cannot have three copies.
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.num.partitions": 8,
        # One worker a group is the rule here: waiting for others to join only costs start time.
        "group.initial.rebalance.delay.ms": 0,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 33_554_432,
    }


def format_storage(context: Context, config: Path) -> None:
    """Give the data folder its cluster id, once (`kafka-storage format`). Raises `LocalStackError`."""
    data = _data(context)
    if (data / "meta.properties").is_file():
        return
    data.mkdir(parents=True, exist_ok=True)
    cluster_id = urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
    command = [str(context.parts["java"]), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    command += ["-cp", f"{context.parts['kafka']}/*", "kafka.tools.StorageTool", "format"]
    # The id must not begin with a dash, or the tool takes it for an option.
    command += ["--cluster-id", cluster_id.replace("-", "A"), "--config", str(config), "--ignore-formatted"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise LocalStackError(
            f"Kafka's data folder {data} could not be formatted:\n{(done.stdout + done.stderr)[-2000:]}",
            "If it holds nothing you need: thalweg down --delete-data",
        )


def probe(bootstrap: str) -> None:
    """Ready when the broker answers a metadata request and names itself. Raises `NotReadyError`."""
    # Kafka's client waits longer and longer between its tries; a refusal is known at once.
    if not any(_accepts(address) for address in bootstrap.split(",")):
        raise NotReadyError(f"Kafka at {bootstrap} does not answer: nothing listens there")
    admin = AdminClient(
        {"bootstrap.servers": bootstrap, "socket.timeout.ms": int(PROBE_TIMEOUT_S * 1000), "log_level": 0}
    )
    try:
        if not admin.list_topics(timeout=PROBE_TIMEOUT_S).brokers:
            raise NotReadyError(f"Kafka at {bootstrap} names no broker yet")
    except KafkaException as error:
        raise NotReadyError(f"Kafka at {bootstrap} does not answer: {error.args[0].str()}") from error


def _data(context: Context) -> Path:
    return context.home.data / "kafka"


def _accepts(address: str) -> bool:
    host, _, port = address.strip().rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PROBE_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True
