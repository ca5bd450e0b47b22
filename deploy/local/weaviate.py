"""The vector store: one Weaviate node with a key, no modules and no guessing of schemas.

Before: `parts` (the built program) and `ports`. After: `streams` writes to it, `query_api` searches it.

Its HTTP and gossip ports are on the loopback address. The gRPC and the data port listen on every address and
Weaviate has no setting for that, so it never runs without an API key and anonymous access is off.
"""

from __future__ import annotations

from deploy.local import http_probe
from deploy.local.server import Context, Server

ADMIN = "thalweg-admin"
MEMORY_MIB = 2048


def server(context: Context) -> Server:
    """How the node is run. Its data live in `<home>/data/weaviate`."""
    port, grpc = context.ports["weaviate"], context.ports["weaviate_grpc"]
    url = f"http://127.0.0.1:{port}"
    key = context.home.weaviate_key_file.read_text().strip()
    command = [str(context.parts["weaviate"]), "--host", "127.0.0.1", "--port", str(port), "--scheme", "http"]
    command += ["--read-timeout", "600s", "--write-timeout", "600s"]
    return Server(
        name="weaviate",
        command=tuple(command),
        env=environment(context, key),
        first_run=lambda: (context.home.data / "weaviate").mkdir(parents=True, exist_ok=True),
        probe=lambda: probe(url, key),
        address={"url": url, "grpc": f"127.0.0.1:{grpc}", "api_key_file": str(context.home.weaviate_key_file)},
        settings={"weaviate": {"url": url, "grpc": f"127.0.0.1:{grpc}", "api_key": key}},
        folder=context.home.run,
        stop_s=30.0,
    )


def environment(context: Context, key: str) -> dict[str, str]:
    """Weaviate's settings; it takes nearly all of them from the environment."""
    ports = context.ports
    return {
        "PERSISTENCE_DATA_PATH": str(context.home.data / "weaviate"),
        "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
        "AUTHENTICATION_APIKEY_ENABLED": "true",
        "AUTHENTICATION_APIKEY_ALLOWED_KEYS": key,
        "AUTHENTICATION_APIKEY_USERS": ADMIN,
        "AUTHORIZATION_ADMINLIST_ENABLED": "true",
        "AUTHORIZATION_ADMINLIST_USERS": ADMIN,
        "AUTOSCHEMA_ENABLED": "false",
        "ASYNC_INDEXING": "false",
        "DEFAULT_VECTORIZER_MODULE": "none",
        "ENABLE_API_BASED_MODULES": "false",
        # No module but this one: it computes nothing, it lets `thalweg backup` take a snapshot.
        "ENABLE_MODULES": "backup-filesystem",
        "BACKUP_FILESYSTEM_PATH": str(context.home.data / "weaviate-backups"),
        "DISABLE_TELEMETRY": "true",
        "GO_PROFILING_DISABLE": "true",
        "GRPC_PORT": str(ports["weaviate_grpc"]),
        "GRPC_MAX_MESSAGE_SIZE": str(100 * 1024 * 1024),
        "CLUSTER_HOSTNAME": "local",
        "CLUSTER_BIND_ADDR": "127.0.0.1",
        "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
        "CLUSTER_GOSSIP_BIND_PORT": str(ports["weaviate_gossip"]),
        "CLUSTER_DATA_BIND_PORT": str(ports["weaviate_data"]),
        "RAFT_PORT": str(ports["weaviate_raft"]),
        "RAFT_INTERNAL_RPC_PORT": str(ports["weaviate_raft_rpc"]),
        "RAFT_JOIN": f"local:{ports['weaviate_raft']}",
        "RAFT_BOOTSTRAP_EXPECT": "1",
        # A laptop's disk is often fuller than Weaviate's default of 90 %, which would make it read-only there.
        "DISK_USE_WARNING_PERCENTAGE": "90",
        "DISK_USE_READONLY_PERCENTAGE": "97",
        "MEMORY_WARNING_PERCENTAGE": "90",
        "MEMORY_READONLY_PERCENTAGE": "0",
        "GOMEMLIMIT": f"{MEMORY_MIB}MiB",
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "text",
        "PROMETHEUS_MONITORING_ENABLED": "false",
    }


def probe(url: str, key: str) -> None:
    """Ready when Weaviate says so and takes our key. Raises `NotReadyError`."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    http_probe.get(f"{url}/v1/.well-known/ready", headers)
    # The ready page needs no key; a wrong one must not look ready.
    http_probe.get(f"{url}/v1/meta", headers)
