"""docker-compose.yml is the local default in containers: same parts, versions, ports and settings, nothing left open.

No Docker engine is needed: the file is checked against the compose specification and against deploy/local. What may
differ from deploy/local is named here, key by key; anything else that differs fails.
"""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from deploy.images import packages
from deploy.local import apps, connect, java, kafka, parts, plan, postgres, registry, toolchain, weaviate
from deploy.local.places import Home
from deploy.local.ports import DEFAULTS
from deploy.local.server import Context, Server
from runtime.settings import SettingsError, load_settings
from streams.pipeline import STAGES

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
DOCKERFILES = ("deploy/images/thalweg.Dockerfile", "deploy/images/connect.Dockerfile")
LOOPBACK = "127.0.0.1"
ANYWHERE = "0.0.0.0"  # noqa: S104 - inside a container


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
    assert found["services"]
    return found


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(compose["services"])


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """What deploy/local describes its servers from, on the usual ports."""
    home = Home(tmp_path_factory.mktemp("home"))
    home.make()
    return Context(home, {name: Path("/parts") / name for name in parts.ALL}, DEFAULTS, {})


def one_shot(service: Mapping[str, Any]) -> bool:
    return bool(service.get("restart") == "no")


def ours(services: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {name: service for name, service in services.items() if service["image"].startswith("thalweg/")}
    found.pop("connect")
    assert len(found) >= len(apps.APPS) + len(apps.STEPS)
    return found


# --- the file itself -------------------------------------------------------------------------------------------------


def test_the_file_should_be_valid_by_the_compose_specification(compose: dict[str, Any]) -> None:
    # The folder only: the package's own command needs a newer click than Faust allows.
    spec = importlib.util.find_spec("check_jsonschema")
    assert spec is not None
    assert spec.submodule_search_locations
    schema_file = Path(spec.submodule_search_locations[0]) / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(schema_file.read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(compose)] == []
    assert list(validator.iter_errors({"services": {"a": {"imag": "b"}}})), "this schema refuses nothing"


def test_docker_itself_should_accept_the_file_where_it_has_the_compose_plugin(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("no docker compose plugin here")
    command = [docker, "compose", "--file", str(COMPOSE_FILE), "--profile", "*", "config", "--quiet"]
    done = subprocess.run(command, env={"STACK_SECRETS": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_service_should_have_a_health_check_or_be_one_shot(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if one_shot(service):
            assert "healthcheck" not in service, name
            continue
        asked = service["healthcheck"]
        assert asked["interval"], name
        assert asked["start_period"], name
        if "test" not in asked:
            build = service["build"]
            assert image_setting(build["dockerfile"], build.get("target"), "HEALTHCHECK") not in (None, "NONE"), name


def test_what_a_service_waits_for_should_exist_and_become_so(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if one_shot(services[other]) else "service_healthy"
            assert wait["condition"] == wanted, (name, other)
    for app in apps.APPS:
        assert {step.name for step in apps.STEPS} < set(services[app.name]["depends_on"])


def test_every_service_should_be_held_in(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["init"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert "privileged" not in service, name
        assert not {"network_mode", "pid", "cap_add"} & set(service), name
        assert "inside" in service["networks"], name
    # Their images write into their own root at start, or could not be tried here without one.
    writable = {name for name, service in services.items() if service.get("read_only") is not True}
    assert writable == {"kafka", "weaviate"}


def test_the_parser_of_strangers_files_should_have_no_secret_and_no_way_out(
    compose: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    assert services["parse"]["networks"] == ["inside"]
    assert compose["networks"]["inside"] == {"internal": True}
    assert "secrets" not in services["parse"]
    assert "ports" not in services["parse"]


def test_all_named_things_should_be_declared_and_used(
    compose: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    for kind, used in {
        "secrets": [name for service in services.values() for name in service.get("secrets", [])],
        "volumes": [entry.split(":")[0] for service in services.values() for entry in service.get("volumes", [])],
        "networks": [name for service in services.values() for name in service["networks"]],
        "configs": [entry["source"] for service in services.values() for entry in service.get("configs", [])],
    }.items():
        assert set(used) == set(compose[kind]), kind
    for config in compose["configs"].values():
        assert (ROOT / config["file"]).is_file()


# --- the same parts as deploy/local ----------------------------------------------------------------------------------


def test_every_image_should_be_pinned_to_the_version_that_deploy_local_runs(services: dict[str, Any]) -> None:
    tags = dict(service["image"].rsplit(":", 1) for service in services.values())
    assert all(re.fullmatch(r"\d+(\.\d+)*", tag) for tag in tags.values()), tags
    lock = parts.locked()
    assert tags.pop("apache/kafka") == lock["kafka"]["version"]
    assert tags.pop("apicurio/apicurio-registry") == lock["registry"]["version"]
    assert tags.pop("semitechnologies/weaviate") == lock["weaviate"]["version"].removeprefix("v")
    assert int(tags.pop("postgres")) >= toolchain.POSTGRES_AT_LEAST
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert tags == dict.fromkeys(
        ("thalweg/connect", "thalweg/streams", "thalweg/upload", "thalweg/query", "thalweg/tools"), version[1]
    )


def test_connect_should_be_built_on_the_same_kafka(services: dict[str, Any]) -> None:
    text = (ROOT / services["connect"]["build"]["dockerfile"]).read_text()
    assert re.findall(r"^FROM (apache/kafka:\S+)$", text, re.MULTILINE) == [services["kafka"]["image"]]


def test_the_servers_should_be_those_of_deploy_local(services: dict[str, Any]) -> None:
    rest = set(services) - {app.name for app in apps.APPS} - {step.name for step in apps.STEPS}
    assert rest == {*plan.SERVERS, "tools"}


def test_there_should_be_one_service_for_each_process_and_step(services: dict[str, Any]) -> None:
    for app in apps.APPS:
        # An API's image runs nothing else, so its command is the image's own.
        build = services[app.name]["build"]
        command = services[app.name].get("command") or json.loads(
            image_setting(build["dockerfile"], build["target"], "CMD") or "[]"
        )
        assert tuple(command) == app.arguments, app.name
    for step in apps.STEPS:
        assert tuple(services[step.name]["command"]) == step.arguments
        assert one_shot(services[step.name])


def test_each_stage_should_have_its_worker(services: dict[str, Any]) -> None:
    commands = [service.get("command") for service in services.values()]
    for stage in STAGES:
        assert ["worker", stage.name] in commands


def test_ports_should_be_the_usual_ones_on_the_loopback_address_only(services: dict[str, Any]) -> None:
    published = {}
    for name, service in services.items():
        for entry in service.get("ports", []):
            host, outside, inside = entry.split(":")
            assert host == LOOPBACK, name
            assert "edge" in service["networks"], f"{name}: an internal network publishes nothing"
            published[int(outside)] = (name, int(inside))
    usual = {port: name for name, port in DEFAULTS.items()}
    # What servers say to themselves stays in their containers.
    own = {"kafka_controller", "registry_management"} | {
        n for n in DEFAULTS if re.match("weaviate_(gossip|data|raft)", n)
    }
    assert set(published) == {port for port, name in usual.items() if name not in own}
    for outside, (name, inside) in published.items():
        assert usual[outside].split("_")[0] == name
        assert inside == (29092 if name == "kafka" else outside)


def test_stopping_should_be_as_patient_as_the_local_stack_and_by_the_same_signal(
    services: dict[str, Any], context: Context
) -> None:
    with_metrics = {**DEFAULTS, **{apps.port_name(app): 1 for app in apps.APPS if app.stage}}
    everything: list[Server] = [make(context) for make in plan.SERVERS.values()]
    wide = Context(context.home, context.parts, with_metrics, {})
    everything += [apps.server(app, wide, ()) for app in apps.APPS]
    for server in everything:
        service = services[server.name]
        assert float(service["stop_grace_period"].removesuffix("s")) >= server.stop_s, server.name
        assert service.get("stop_signal", "SIGTERM") == server.stop_signal.name, server.name


# --- the same settings as deploy/local -------------------------------------------------------------------------------


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


# --- our processes ---------------------------------------------------------------------------------------------------


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
    secret.write_text("1")
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
    home = image_variables("deploy/images/thalweg.Dockerfile", "upload")["THALWEG_HOME"]
    assert services["upload"]["volumes"] == services["parse"]["volumes"] == [f"files:{home}"]
    for name in ("capture", "index", "lag-exporter"):
        assert any(entry.startswith(f"{home}:") for entry in services[name]["tmpfs"]), name


def test_health_should_be_asked_at_the_port_that_the_process_serves(services: dict[str, dict[str, Any]]) -> None:
    for app in apps.APPS:
        service = services[app.name]
        image = image_variables(service["build"]["dockerfile"], service["build"]["target"])
        variables = image | {key: value for key, value in service["environment"].items() if value is not None}
        section = {"lag-exporter": "LAG_EXPORTER"}.get(app.name, (app.api or "metrics").upper())
        assert variables["READY_PORT"] == variables[f"THALWEG_{section}__PORT"], app.name
        assert variables[f"THALWEG_{section}__HOST"] == ANYWHERE, app.name


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_no_secret_and_no_usable_default_should_be_in_the_file(compose: dict[str, Any]) -> None:
    for name, secret in compose["secrets"].items():
        assert re.fullmatch(r"\$\{STACK_SECRETS:\?run first: .+\}/" + name, secret["file"]), name
    text = COMPOSE_FILE.read_text()
    assert not re.findall(r"\$\{[A-Z_]+:?-", text), "a variable with a default"
    assert not re.search(r"://[^/\s:@]+:[^/\s@]+@", text), "an address with a password"
    for name, service in compose["services"].items():
        for key, value in (service.get("environment") or {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|KEY|DSN", key) and not re.search(r"ENABLED$|_USERS$", key):
                assert value is None or value.startswith("/run/secrets/"), (name, key)


def test_secrets_should_be_made_once_closed_to_others_and_readable_in_containers(
    compose: dict[str, Any], tmp_path: Path
) -> None:
    def make() -> dict[str, str]:
        subprocess.run(
            ["sh", str(ROOT / "deploy/compose/make-secrets"), str(tmp_path / "secrets")],
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "STACK_ENV_FILE": str(tmp_path / "env")},
            check=True,
            capture_output=True,
        )
        return {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}

    made = make()
    assert set(made) == set(compose["secrets"])
    assert make() == made
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "secrets").iterdir()} == {0o644}
    assert f"STACK_SECRETS={tmp_path / 'secrets'}\n" in (tmp_path / "env").read_text()
    assert made["postgres-dsn"] == f"postgresql://thalweg:{made['postgres-password']}@postgres:5432/thalweg"
    generated = [made[name] for name in ("postgres-password", "weaviate-key", "administrator-key")]
    assert all(re.fullmatch(r"(tw_)?[0-9a-f]{64}", value) for value in generated)
    assert len(set(generated)) == 3


# --- images ----------------------------------------------------------------------------------------------------------


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Each instruction with its arguments, continued lines joined."""
    lines = [line for line in (ROOT / dockerfile).read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]
    assert found
    return found


def stages(dockerfile: str) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Stage name to what it is from and its instructions; the last one of a file without a name is ''."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    current: list[tuple[str, str]] = []
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = []
            found[name] = (base, current)
        else:
            current.append((word, rest))
    return found


def lineage(dockerfile: str, target: str | None) -> list[tuple[str, str]]:
    """All instructions that make a target's image, the base's first."""
    known = stages(dockerfile)
    name, made = target or "", list[tuple[str, str]]()
    while name in known:
        base, own = known[name]
        made = [*own, *made]
        name = base
    assert made
    return made


def image_setting(dockerfile: str, target: str | None, instruction: str) -> str | None:
    """The last value of an instruction in a target's image."""
    return next((rest for word, rest in reversed(lineage(dockerfile, target)) if word == instruction), None)


def image_variables(dockerfile: str, target: str) -> dict[str, str]:
    """The environment of a target's image."""
    lines = [rest for instruction, rest in lineage(dockerfile, target) if instruction == "ENV"]
    words = [word for line in lines for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_what_is_copied_should_exist_and_be_let_in(dockerfile: str) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = 0
    for name, (_, made) in stages(dockerfile).items():
        for word, rest in made:
            if word not in {"COPY", "ADD"}:
                continue
            words = rest.split()
            if words[0].startswith("--from="):
                assert words[0].removeprefix("--from=") in stages(dockerfile), (name, rest)
                continue
            for source in words[:-1]:
                assert (ROOT / source).exists(), (name, source)
                assert source.split("/")[0] in allowed, f"{source} is kept out by .dockerignore"
                copied += 1
    assert copied > 3


def test_our_images_should_run_as_an_ordinary_account(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if build := service.get("build"):
            user = image_setting(build["dockerfile"], build.get("target"), "USER")
            assert user is not None
            assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user), name
            assert "user" not in service, name


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_base_images_should_be_pinned_and_no_registry_named(dockerfile: str) -> None:
    for base, _ in stages(dockerfile).values():
        assert base in stages(dockerfile) or re.fullmatch(r"[a-z]+(/[a-z]+)?:\d+\.\d+[\w.-]*", base), base
    text = (ROOT / dockerfile).read_text()
    assert not re.search(r"https?://(?!127\.0\.0\.1)", text)
    assert "pip install" in text
    assert text.count("pip install") == text.count("--require-hashes --only-binary :all: -r chosen.lock")


def test_each_image_should_hold_only_the_code_of_its_own_packages() -> None:
    def code(target: str) -> set[str]:
        copies = [rest.split() for word, rest in lineage(DOCKERFILES[0], target) if word == "COPY"]
        return {words[0] for words in copies if not words[0].startswith("--")}

    ground = {"schemas", "runtime", "thalweg"}
    assert code("streams") == ground | {"streams"}
    assert code("upload") == ground | {"connectors"}
    assert code("query") == ground | {"query_api"}
    assert code("tools") == ground | {"streams", "connectors", "query_api"}


@pytest.mark.parametrize("image", packages.IMAGES)
def test_the_list_of_an_images_packages_should_be_fresh(image: str) -> None:
    assert packages.list_of(image).read_text() == packages.written(image), "run: python -m deploy.images.packages"


@pytest.mark.parametrize("image", packages.IMAGES)
def test_each_package_of_an_image_should_be_pinned_with_hashes(image: str) -> None:
    names = packages.list_of(image).read_text().split()
    blocks = packages.chosen((ROOT / "requirements.lock").read_text(), names)
    pins = re.findall(r"^([A-Za-z0-9._-]+)==", blocks, re.MULTILINE)
    assert {re.sub(r"[-_.]+", "-", pin).lower() for pin in pins} == set(names)
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", blocks.strip()))


def test_the_query_image_should_carry_neither_faust_nor_the_parsers() -> None:
    query = set(packages.list_of("query").read_text().split())
    assert {"fastapi", "weaviate-client", "onnxruntime", "cohere"} <= query
    assert not {"faust-streaming", "mode-streaming", "aiokafka", "unstructured", "spacy", "pandas", "torch"} & query
    assert {"faust-streaming", "unstructured", "spacy"} <= set(packages.list_of("streams").read_text().split())


def test_choosing_from_the_lock_should_keep_every_variant_of_a_package_and_refuse_an_unknown_one() -> None:
    lock = 'a==1 ; python_version < "3.12" \\
    --hash=sha256:aa
a==2 \\
    --hash=sha256:bb
'
    lock += "b_c==3 \\
    --hash=sha256:cc
"
    assert packages.chosen(lock, ["a"]) == lock[: lock.index("b_c")]
    assert packages.chosen(lock, ["b-c"]) == lock[lock.index("b_c") :]
    with pytest.raises(KeyError):
        packages.chosen(lock, ["d"])


def read_properties(file: str) -> dict[str, str]:
    """A properties file; relative to deploy/compose."""
    lines = (ROOT / "deploy/compose" / file).read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert found
    return found
