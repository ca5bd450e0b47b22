"""docker-compose.yml is the local default in containers: same parts, versions and ports, nothing left open.

No Docker engine is needed: the file is checked against the compose specification and against deploy/local.
"""

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from deploy.local import apps, plan, recipes, toolchain
from deploy.local.ports import DEFAULTS
from deploy.local.server import Context, Server
from streams.pipeline import STAGES
from tests.deploy import compose_file
from tests.deploy.compose_file import LOOPBACK, ROOT, one_shot
from tests.deploy.dockerfile import image_setting


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return compose_file.load()


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
    command = [docker, "compose", "--file", str(compose_file.FILE), "--profile", "*", "config", "--quiet"]
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


def test_the_parser_of_strangers_files_should_have_no_secrets_but_those_it_masks_and_seals_with_and_no_way_out(
    compose: dict[str, Any], services: dict[str, dict[str, Any]]
) -> None:
    assert services["parse"]["networks"] == ["inside"]
    assert compose["networks"]["inside"] == {"internal": True}
    assert services["parse"]["secrets"] == ["mask-key", "seal-keys"]
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


def test_every_image_should_be_pinned_to_the_version_that_deploy_local_runs(services: dict[str, Any]) -> None:
    tags = dict(service["image"].rsplit(":", 1) for service in services.values())
    assert all(re.fullmatch(r"\d+(\.\d+)*", tag) for tag in tags.values()), tags
    lock = recipes.locked()
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
    with_metrics = {**{apps.port_name(app): 1 for app in apps.APPS}, **DEFAULTS}
    everything: list[Server] = [make(context) for make in plan.SERVERS.values()]
    wide = Context(context.home, context.parts, with_metrics, {})
    everything += [apps.server(app, wide, ()) for app in apps.APPS]
    for server in everything:
        service = services[server.name]
        assert float(service["stop_grace_period"].removesuffix("s")) >= server.stop_s, server.name
        assert service.get("stop_signal", "SIGTERM") == server.stop_signal.name, server.name


def test_no_secret_and_no_usable_default_should_be_in_the_file(compose: dict[str, Any]) -> None:
    for name, secret in compose["secrets"].items():
        assert re.fullmatch(r"\$\{STACK_SECRETS:\?run first: .+\}/" + name, secret["file"]), name
    text = compose_file.FILE.read_text()
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
    names = ("postgres-password", "weaviate-key", "administrator-key", "login-secret", "mask-key", "seal-keys")
    generated = [made[name] for name in names]
    assert all(re.fullmatch(r"(tw_)?[0-9a-f]{64}", value) for value in generated)
    assert len(set(generated)) == len(names)
