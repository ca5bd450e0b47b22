"""What servers are started with, as data."""

from pathlib import Path

import pytest

from deploy.local import apps, connect, kafka, plan, postgres, registry, weaviate
from deploy.local.account import Account
from deploy.local.errors import LocalStackError
from deploy.local.places import Home
from deploy.local.ports import DEFAULTS
from deploy.local.server import Context, Server, properties
from deploy.local.supervisor import settings_section

PARTS = ("java", "kafka", "debezium", "avro-converter", "registry", "weaviate", "postgres", "embedder")


@pytest.fixture
def context(tmp_path: Path) -> Context:
    home = Home(tmp_path / "home")
    home.make()
    ports = {
        **DEFAULTS,
        "capture_metrics": 20_001,
        "parse_metrics": 20_002,
        "index_metrics": 20_003,
        "index-bulk_metrics": 20_004,
        "rebuild_metrics": 20_005,
    }
    return Context(home, {name: Path("/parts") / name for name in PARTS}, ports, {})


def all_of(context: Context) -> list[Server]:
    wanted = plan.make({}, None, with_apps=True, usual_ports=True, tied_to=None)
    servers, own = plan.describe(wanted, context)
    return [*servers, *own]


def test_properties_should_be_one_line_a_setting() -> None:
    assert properties({"a": 1, "b.c": "x,y"}) == "a=1\nb.c=x,y\n"


def test_the_broker_should_listen_on_the_loopback_address_only_and_make_no_topics(context: Context) -> None:
    settings = kafka.broker_settings(context)
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert settings["auto.create.topics.enable"] == "false"
    assert settings["message.max.bytes"] == settings["replica.fetch.max.bytes"] == 40 * 1024 * 1024


def test_connect_should_take_records_as_large_as_the_broker_and_keep_passwords_out_of_its_configuration(
    context: Context,
) -> None:
    settings = connect.worker_settings(context)
    assert settings["producer.max.request.size"] == 40 * 1024 * 1024
    assert settings["exactly.once.source.support"] == "disabled"
    assert settings["listeners"] == "http://127.0.0.1:8083"
    assert settings["config.providers.directory.param.allowed.paths"] == context.home.connector_secrets
    assert settings["plugin.path"] == "/parts/debezium,/parts/avro-converter"


def test_java_servers_should_use_a_broker_that_runs_elsewhere(context: Context) -> None:
    elsewhere = Context(context.home, context.parts, context.ports, {"kafka": "broker:9092"})
    assert connect.worker_settings(elsewhere)["bootstrap.servers"] == "broker:9092"
    assert registry.environment(elsewhere)["APICURIO_KAFKASQL_BOOTSTRAP_SERVERS"] == "broker:9092"


def test_weaviate_should_never_be_open_without_a_key(context: Context) -> None:
    env = weaviate.environment(context, "the-key")
    assert env["AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED"] == "false"
    assert env["AUTHENTICATION_APIKEY_ALLOWED_KEYS"] == "the-key"
    assert env["AUTOSCHEMA_ENABLED"] == "false"
    assert env["GO_PROFILING_DISABLE"] == "true"


def test_no_secret_should_stand_on_a_command_line(context: Context) -> None:
    secrets = [file.read_text().strip() for file in context.home.secrets.iterdir() if file.is_file()]
    assert len(secrets) == 5
    for server in all_of(context):
        for secret in secrets:
            assert secret not in " ".join(server.command)


def test_each_worker_should_get_its_own_port_and_each_api_the_usual_one(context: Context) -> None:
    own = {server.name: server for server in all_of(context)}
    assert own["capture"].env["THALWEG_METRICS__PORT"] == "20001"
    assert own["index"].address["metrics"] == "http://127.0.0.1:20003/metrics"
    assert own["query"].env["THALWEG_QUERY__PORT"] == "8000"
    assert own["upload"].address["url"] == "http://127.0.0.1:8001"
    assert set(own) >= {app.name for app in apps.APPS}


def test_settings_for_our_processes_should_be_ones_that_runtime_settings_knows(context: Context) -> None:
    from runtime.settings import Settings

    wanted = plan.make({}, None, with_apps=True, usual_ports=True, tied_to=None)
    servers, _ = plan.describe(wanted, context)
    merged = settings_section(wanted, context, servers)
    settings = Settings.model_validate({"home": context.home.root, **merged})
    assert settings.kafka.bootstrap == "127.0.0.1:9092"
    assert settings.connect.registry_url == "http://127.0.0.1:8081/apis/registry/v2"
    assert settings.access.demo_key_file == context.home.demo_key_file
    assert settings.privacy.mask_key is not None
    assert settings.privacy.mask_key.get_secret_value() == context.home.mask_key_file.read_text().strip()
    assert settings.privacy.sealing == (context.home.seal_keys_file.read_text().strip(),)
    assert settings.weaviate.api_key is not None


def test_a_server_named_by_the_environment_should_not_be_started() -> None:
    env = {"THALWEG_KAFKA__BOOTSTRAP": "elsewhere:9092"}
    wanted = plan.make(env, None, with_apps=False, usual_ports=True, tied_to=None)
    assert "kafka" not in wanted.servers
    assert plan.external_records(wanted)["kafka"]["bootstrap"] == "elsewhere:9092"
    assert plan.external_settings(wanted) == {"kafka": {"bootstrap": "elsewhere:9092"}}
    assert not [name for name in plan.port_names(wanted) if name.startswith("kafka")]


def test_an_address_in_a_file_should_count_like_one_in_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "dsn"
    file.write_text("postgresql://elsewhere/db\n")
    assert plan.external_address("postgres", {"THALWEG_POSTGRES__DSN_FILE": str(file)}) == "postgresql://elsewhere/db"


def test_a_server_that_does_not_exist_should_be_refused_with_those_that_do() -> None:
    with pytest.raises(LocalStackError, match="There are: kafka"):
        plan.make({}, ["kafka", "redis"], with_apps=False, usual_ports=True, tied_to=None)


def test_connect_without_any_broker_should_be_refused() -> None:
    with pytest.raises(LocalStackError, match="connect needs Kafka"):
        plan.make({}, ["connect"], with_apps=False, usual_ports=True, tied_to=None)


def test_a_plan_should_survive_its_file(tmp_path: Path) -> None:
    wanted = plan.make({}, ["kafka", "registry"], with_apps=False, usual_ports=False, tied_to=42)
    wanted.save(tmp_path / "plan.json")
    assert plan.load(tmp_path / "plan.json") == wanted


def test_the_database_should_lie_where_its_account_can_get(tmp_path: Path) -> None:
    stranger = Account("stranger", 54_321, 54_321)
    below = tmp_path / "home" / "data"
    below.mkdir(parents=True)
    tmp_path.chmod(0o700)
    elsewhere = postgres.data_folder(below, stranger, tmp_path / "elsewhere")
    assert elsewhere.parent == tmp_path / "elsewhere"
    assert elsewhere == postgres.data_folder(below, stranger, tmp_path / "elsewhere")
    assert postgres.data_folder(below, None) == below / "postgres"


def test_the_database_should_be_ready_for_change_capture(context: Context) -> None:
    text = postgres.settings_text(5432)
    assert "wal_level = logical" in text
    assert "max_slot_wal_keep_size" in text
    assert "listen_addresses = '127.0.0.1'" in text
