"""The schema registry: Apicurio, which keeps its schemas in a Kafka topic.

Before: `kafka` is ready. After: `thalweg schemas register`, every producer and consumer of Avro, and Connect.
"""

from __future__ import annotations

from deploy.local import http_probe, java
from deploy.local.connect import bootstrap
from deploy.local.server import Context, Server

CONFLUENT_PATH = "/apis/ccompat/v7"
NATIVE_PATH = "/apis/registry/v2"


def server(context: Context) -> Server:
    """How the registry is run. It has no data folder: its journal is a topic, its ids survive a restart."""
    port = context.ports["registry"]
    url = f"http://127.0.0.1:{port}{CONFLUENT_PATH}"
    native = f"http://127.0.0.1:{port}{NATIVE_PATH}"
    jvm = [str(context.parts["java"]), *java.options(context, "registry", 384, quick_compiler_only=True)]
    return Server(
        name="registry",
        scratch=java.temporary(context, "registry"),
        command=(*jvm, "-jar", str(context.parts["registry"] / "quarkus-run.jar")),
        env=environment(context),
        probe=lambda: probe(url),
        address={
            "url": url,
            "native": native,
            "metrics": f"http://127.0.0.1:{context.ports['registry_management']}/metrics",
        },
        settings={"registry": {"url": url}, "connect": {"registry_url": native}},
        after=("kafka",),
    )


def environment(context: Context) -> dict[str, str]:
    """Apicurio's settings; it takes them from the environment."""
    scratch = java.temporary(context, "registry")
    return {
        "QUARKUS_HTTP_HOST": "127.0.0.1",
        "QUARKUS_HTTP_PORT": str(context.ports["registry"]),
        # Health and metrics have a listener of their own, which by default is open to the network.
        "QUARKUS_MANAGEMENT_HOST": "127.0.0.1",
        "QUARKUS_MANAGEMENT_PORT": str(context.ports["registry_management"]),
        "QUARKUS_LOG_CONSOLE_FORMAT": "%d{yyyy-MM-dd'T'HH:mm:ss.SSS} %-5p %c{3.}: %m%e%n",
        "QUARKUS_LOG_CATEGORY__ORG_APACHE_KAFKA__LEVEL": "WARN",
        "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
        # Telemetry to a collector that is not there.
        "QUARKUS_OTEL_SDK_DISABLED": "true",
        "APICURIO_STORAGE_KIND": "kafkasql",
        "APICURIO_KAFKASQL_BOOTSTRAP_SERVERS": bootstrap(context),
        "APICURIO_STORAGE_SNAPSHOT_LOCATION": str(scratch),
        # Its default of 5 s is waited out twice at each start, for snapshots that this set-up does not take: the
        # journal topic is kept whole (retention.ms=-1, set and checked by Apicurio).
        "APICURIO_KAFKASQL_CONSUMER_POLL_TIMEOUT": "500",
        # Debezium's topics make their subjects as they appear, and removing a source removes them.
        "APICURIO_REST_DELETION_ARTIFACT_ENABLED": "true",
        "APICURIO_REST_DELETION_ARTIFACT_VERSION_ENABLED": "true",
        "APICURIO_REST_DELETION_GROUP_ENABLED": "true",
    }


def probe(url: str) -> None:
    """Ready when the Confluent-compatible API lists subjects. Raises `NotReadyError`."""
    http_probe.get(f"{url}/subjects")
