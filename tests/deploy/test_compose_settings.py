"""What containers are told is what deploy/local tells its processes.

What may differ is named here, key by key, with its value; anything else that differs fails.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.local import apps, connect, java, kafka, plan, postgres, registry, weaviate
from deploy.local.ports import DEFAULTS
from deploy.local.server import Context
from runtime.settings import SettingsError, load_settings
from tests.deploy.compose_file import ANYWHERE, LOOPBACK, ROOT, ours
from tests.deploy.dockerfile import THALWEG, image_variables


def assert_same(
    here: Mapping[str, str], there: Mapping[str, object], *, differ: Mapping[str, str], only_here: set[str]
) -> None:
    """`here` (containers) is `there` (deploy/local), but for the values of `differ` and the keys of `only_here`."""
    expected = {key: str(value) for key, value in there.items()} | dict(differ)
    assert not set(differ) - set(there), "differs from nothing"
    assert only_here <= set(here), "is not there"
    assert {key: value for key, value in here.items() if key not in only_here} == expected
    for key, value in differ.items():
        assert value != str(there[key]), f"{key} does not differ any more"


def test_kafka_should_have_the_local_settings(services: dict[str, Any], context: Context) -> None:
    environment = services["kafka"]["environment"]
    there = {f"KAFKA_{key.upper().replace('.', '_')}": v for key, v in kafka.broker_settings(context).items()}
    assert_same(
        environment,
        there,
        differ={
            "KAFKA_LISTENERS": "PLAINTEXT://:9092,HOST://:29092,CONTROLLER://127.0.0.1:9093",
            "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://kafka:9092,HOST://127.0.0.1:9092",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,HOST:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
        },
        only_here={"KAFKA_HEAP_OPTS", "KAFKA_JVM_PERFORMANCE_OPTS"},
    )
    assert services["kafka"]["volumes"] == [f"kafka:{environment['KAFKA_LOG_DIRS']}"]


def test_connect_should_have_a_secret_since_it_refuses_to_start_without_the_folder(services: dict[str, Any]) -> None:
    assert services["connect"]["secrets"]


def test_connect_should_have_the_local_settings(context: Context) -> None:
    assert_same(
        read_properties("connect.properties"),
        connect.worker_settings(context),
        differ={
            "bootstrap.servers": "kafka:9092",
            "listeners": "http://0.0.0.0:8083",
            "rest.advertised.host.name": "connect",
            "plugin.path": "/opt/thalweg/plugins",
            "config.providers.file.param.allowed.paths": "/run/secrets",
            "config.providers.directory.param.allowed.paths": "/run/secrets",
        },
        only_here=set(),
    )


def test_connect_should_log_as_the_local_one(tmp_path: Path) -> None:
    local = tmp_path / "log4j2.properties"
    local.write_text(java.LOGGING + java.QUIET_LOGGERS)
    assert read_properties("log4j2.properties") == read_properties(str(local))


def test_the_registry_should_have_the_local_settings(services: dict[str, Any], context: Context) -> None:
    assert_same(
        services["registry"]["environment"],
        registry.environment(context),
        differ={
            "QUARKUS_HTTP_HOST": ANYWHERE,
            "QUARKUS_MANAGEMENT_HOST": ANYWHERE,
            "APICURIO_KAFKASQL_BOOTSTRAP_SERVERS": "kafka:9092",
            "APICURIO_STORAGE_SNAPSHOT_LOCATION": "/tmp",
        },
        only_here={"JAVA_TOOL_OPTIONS"},
    )


def test_weaviate_should_have_the_local_settings(services: dict[str, Any], context: Context) -> None:
    there = weaviate.environment(context, "a key")
    # Taken from the secret by the entry point.
    del there["AUTHENTICATION_APIKEY_ALLOWED_KEYS"]
    assert "AUTHENTICATION_APIKEY_ALLOWED_KEYS" in services["weaviate"]["entrypoint"][-2]
    assert_same(
        services["weaviate"]["environment"],
        there,
        differ={
            "PERSISTENCE_DATA_PATH": "/var/lib/weaviate/data",
            "BACKUP_FILESYSTEM_PATH": "/var/lib/weaviate/backups",
        },
        only_here=set(),
    )
    local = [LOOPBACK if word == ANYWHERE else word for word in services["weaviate"]["command"]]
    assert tuple(local) == weaviate.server(context).command[1:]


def test_postgres_should_have_the_local_settings(services: dict[str, Any], context: Context) -> None:
    assignments = [line for line in postgres.settings_text(context.ports["postgres"]).splitlines() if "=" in line]
    there = {key.strip(): value.strip().strip("'") for key, _, value in (line.partition("=") for line in assignments)}
    # The image makes the database through its socket.
    del there["unix_socket_directories"]
    given = services["postgres"]["command"]
    assert given[0] == "postgres"
    here = dict(word.removeprefix("-c").split("=", 1) for word in given[1:])
    assert_same(here, there, differ={"listen_addresses": "*"}, only_here=set())
    environment = services["postgres"]["environment"]
    assert {environment["POSTGRES_USER"], environment["POSTGRES_DB"]} == {postgres.USER, postgres.DATABASE}


def test_memory_limits_should_leave_room_for_what_is_promised(services: dict[str, Any], context: Context) -> None:
    def limit(name: str) -> int:
        text = services[name]["deploy"]["resources"]["limits"]["memory"]
        return int(text[:-1]) * {"M": 1 << 20, "G": 1 << 30}[text[-1]]

    for name, options in (
        ("kafka", services["kafka"]["environment"]["KAFKA_HEAP_OPTS"]),
        *((name, services[name]["environment"]["JAVA_TOOL_OPTIONS"]) for name in ("connect", "registry")),
    ):
        heap = re.search(r"-Xmx(\d+)m", options)
        assert heap is not None
        assert f"-Xmx{heap[1]}m" in plan.SERVERS[name](context).command, name
        assert limit(name) >= 1.9 * int(heap[1]) * (1 << 20), name
    assert limit("weaviate") > weaviate.MEMORY_MIB * (1 << 20)
    assert limit("parse") > load_settings({"THALWEG_HOME": "/nowhere"}).parse.memory_bytes + 512 * (1 << 20)


def refusal(environment: Mapping[str, str]) -> str:
    """Why the settings are refused; nothing if they are not."""
    try:
        load_settings(environment)
    except SettingsError as error:
        return str(error)
    return ""


def test_every_setting_given_to_a_process_of_ours_should_exist_and_its_secret_be_there(
    services: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("1" * 32)
    checked = 0
    for name, service in ours(services).items():
        given = {"THALWEG_HOME": str(tmp_path)}
        for key, value in service["environment"].items():
            if not key.startswith("THALWEG_"):
                continue
            checked += 1
            if value is None:
                # Passed on only where .env sets it: here the name is what counts, "1" may be no provider.
                assert "no such setting" not in refusal({**given, key: str(secret) if key.endswith("_FILE") else "1"})
            elif value.startswith("/run/secrets/"):
                assert value.removeprefix("/run/secrets/") in service["secrets"], (name, key)
                given[key] = str(secret)
            else:
                given[key] = value
        assert refusal(given) == "", name
        assert load_settings(given).kafka.bootstrap == "kafka:9092"
    assert checked > 50


def test_addresses_should_be_those_of_services_and_their_ports(services: dict[str, dict[str, Any]]) -> None:
    addresses = 0
    for service in ours(services).values():
        for value in service["environment"].values():
            if found := re.match(r"(?:http://)?([a-z]+):(\d+)", value or ""):
                assert DEFAULTS[{50051: "weaviate_grpc"}.get(int(found[2]), found[1])] == int(found[2])
                assert found[1] in services
                addresses += 1
    assert addresses > 50


def test_addresses_should_end_as_the_local_ones(services: dict[str, dict[str, Any]]) -> None:
    environment = services["tools"]["environment"]
    assert environment["THALWEG_REGISTRY__URL"].endswith(f":{DEFAULTS['registry']}{registry.CONFLUENT_PATH}")
    assert environment["THALWEG_CONNECT__REGISTRY_URL"].endswith(f":{DEFAULTS['registry']}{registry.NATIVE_PATH}")


def test_files_of_uploads_should_be_where_both_sides_look(services: dict[str, dict[str, Any]]) -> None:
    home = image_variables(THALWEG, "upload")["THALWEG_HOME"]
    assert services["upload"]["volumes"] == services["parse"]["volumes"] == [f"files:{home}"]
    for name in ("capture", "lag-exporter"):
        assert any(entry.startswith(f"{home}:") for entry in services[name]["tmpfs"]), name


def test_vectors_should_be_on_a_disk_and_not_in_memory(services: dict[str, dict[str, Any]]) -> None:
    home = image_variables(THALWEG, "streams")["THALWEG_HOME"]
    for name in ("index", "index-bulk", "rebuild"):
        assert services[name]["volumes"] == [f"vectors:{home}"], name
        assert not any(entry.startswith(f"{home}:") for entry in services[name]["tmpfs"]), name


def test_health_should_be_asked_at_the_port_that_the_process_serves(services: dict[str, dict[str, Any]]) -> None:
    for app in apps.APPS:
        service = services[app.name]
        image = image_variables(service["build"]["dockerfile"], service["build"]["target"])
        variables = image | {key: value for key, value in service["environment"].items() if value is not None}
        section = {"lag-exporter": "LAG_EXPORTER"}.get(app.name, (app.api or "metrics").upper())
        assert variables["READY_PORT"] == variables[f"THALWEG_{section}__PORT"], app.name
        assert variables[f"THALWEG_{section}__HOST"] == ANYWHERE, app.name


def read_properties(file: str) -> dict[str, str]:
    """A properties file; relative to deploy/compose."""
    lines = (ROOT / "deploy/compose" / file).read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert found
    return found
