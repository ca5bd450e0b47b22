"""The five real servers under their supervisor: killed, stopped, started again. One stack for the whole file."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import requests
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local import kafka, stack, state
from deploy.local.apps import code_root
from deploy.local.errors import StartError
from deploy.local.parts import prepare
from deploy.local.plan import SERVERS
from deploy.local.stack import Stack

pytestmark = [pytest.mark.real, pytest.mark.timeout(540)]

DEADLINE_S = 90.0
OPEN_BY_DESIGN = {"weaviate_grpc", "weaviate_data"}


@pytest.fixture(scope="module", autouse=True)
def parts_there() -> None:
    """Set-up may build for minutes; that is not what the tests below measure."""
    prepare()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, parts_there: None) -> Iterator[Stack]:
    started = stack.start(tmp_path_factory.mktemp("stack") / "home", usual_ports=False, tied=True)
    yield started
    started.stop()
    started.delete_data()


def until(true: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < ends, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.1)


def processes(of: Stack) -> list[psutil.Process]:
    """The supervisor and everything below it."""
    pid = state.supervisor_pid(of.home)
    assert pid is not None
    supervisor = psutil.Process(pid)
    return [supervisor, *supervisor.children(recursive=True)]


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def answers(of: Stack) -> dict[str, object]:
    """What each server says when asked by its own protocol."""
    servers = of.state()["servers"]
    key = Path(servers["weaviate"]["api_key_file"]).read_text().strip()
    bearer = {"Authorization": f"Bearer {key}"}
    with psycopg.connect(servers["postgres"]["dsn"]) as session:
        level = session.execute("SHOW wal_level").fetchone()
    return {
        "kafka": len(AdminClient({"bootstrap.servers": servers["kafka"]["bootstrap"]}).list_topics(timeout=10).brokers),
        "registry": requests.get(f"{servers['registry']['url']}/subjects", timeout=10).status_code,
        "connect": requests.get(f"{servers['connect']['url']}/connectors", timeout=10).status_code,
        "weaviate": requests.get(f"{servers['weaviate']['url']}/v1/schema", headers=bearer, timeout=10).status_code,
        "postgres": level,
    }


WELL = {"kafka": 1, "registry": 200, "connect": 200, "weaviate": 200, "postgres": ("logical",)}


def test_all_servers_should_answer_by_their_own_protocols(running: Stack) -> None:
    assert answers(running) == WELL
    assert {name: record["state"] for name, record in running.state()["servers"].items()} == dict.fromkeys(
        SERVERS, "ready"
    )


def test_connect_should_have_the_connector_and_the_converter(running: Stack) -> None:
    url = running.server("connect")["url"]
    found = requests.get(f"{url}/connector-plugins?connectorsOnly=false", timeout=10).json()
    classes = {plugin["class"] for plugin in found}
    assert "io.debezium.connector.postgresql.PostgresConnector" in classes
    assert "io.apicurio.registry.utils.converter.AvroConverter" in classes


def test_weaviate_should_refuse_whoever_has_no_key(running: Stack) -> None:
    assert requests.get(f"{running.server('weaviate')['url']}/v1/schema", timeout=10).status_code == 401


def test_the_broker_should_make_no_topic_by_itself(running: Stack) -> None:
    admin = AdminClient({"bootstrap.servers": running.server("kafka")["bootstrap"]})
    admin.list_topics("typing-error", timeout=10)
    assert "typing-error" not in admin.list_topics(timeout=10).topics


def test_nothing_but_what_weaviate_leaves_open_should_listen_beyond_loopback(running: Stack) -> None:
    from deploy.local.ports import recall

    ports = recall(running.home.run / "ports.json")
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for process in processes(running)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert ports["kafka"] in {port for _, port in listening}, "nothing was looked at"
    beyond = {port for ip, port in listening if ip not in {"127.0.0.1", "::1", "::ffff:127.0.0.1"}}
    assert beyond <= {ports[name] for name in OPEN_BY_DESIGN}


def test_the_state_file_should_be_readable_by_its_owner_alone(running: Stack) -> None:
    assert running.home.state_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", list(SERVERS))
def test_a_killed_server_should_be_back_on_its_port(running: Stack, name: str) -> None:
    before = running.server(name)
    os.kill(before["pid"], signal.SIGKILL)
    after = running.wait_ready(name, DEADLINE_S, other_than_pid=before["pid"])
    assert after["restarts"] == before["restarts"] + 1
    assert {**after, "pid": 0, "born": 0, "restarts": 0} == {**before, "pid": 0, "born": 0, "restarts": 0}
    # Those that hang on the killed one must find it again by themselves.
    until(lambda: _answers_or_none(running) == WELL, f"all answer after {name} was killed")


def _answers_or_none(of: Stack) -> dict[str, object] | None:
    try:
        return answers(of)
    except (OSError, psycopg.Error):
        return None


def test_starting_a_running_stack_should_change_nothing(running: Stack) -> None:
    pids = {process.pid for process in processes(running)}
    again = stack.start(running.home.root, usual_ports=False)
    assert again == running
    assert {process.pid for process in processes(again)} >= {
        record["pid"] for record in running.state()["servers"].values()
    }
    assert state.supervisor_pid(running.home) in pids


def test_stop_should_leave_no_process_and_the_second_start_should_find_all_data(running: Stack) -> None:
    servers = running.state()["servers"]
    admin = AdminClient({"bootstrap.servers": servers["kafka"]["bootstrap"]})
    admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(20)
    with psycopg.connect(servers["postgres"]["dsn"]) as session:
        session.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    schema = {"schema": '{"type": "record", "name": "Kept", "fields": []}'}
    subject = f"{servers['registry']['url']}/subjects/kept-value/versions"
    kept_id = requests.post(subject, json=schema, timeout=10).json()["id"]
    key = Path(servers["weaviate"]["api_key_file"]).read_text().strip()
    bearer = {"Authorization": f"Bearer {key}"}
    collection = {"class": "Kept", "vectorizer": "none"}
    made = requests.post(f"{servers['weaviate']['url']}/v1/schema", json=collection, headers=bearer, timeout=30)
    assert made.status_code == 200, made.text
    all_before = processes(running)
    assert len(all_before) > len(SERVERS)

    assert running.stop() is True
    assert [process for process in all_before if alive(process)] == []
    assert running.state()["phase"] == "stopped"
    assert running.stop() is False

    began = time.monotonic()
    stack.start(running.home.root, usual_ports=False, tied=True)
    # 60 s is the promise for a machine that does nothing else; a busier one gets as much longer as it is busier.
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert time.monotonic() - began < 60 * busy
    again = running.state()["servers"]
    for name in SERVERS:
        for address in ("bootstrap", "url", "grpc", "dsn"):
            assert again[name].get(address) == servers[name].get(address)
    assert "kept" in AdminClient({"bootstrap.servers": again["kafka"]["bootstrap"]}).list_topics(timeout=10).topics
    with psycopg.connect(again["postgres"]["dsn"]) as session:
        assert session.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert requests.get(f"{subject}/latest", timeout=10).json()["id"] == kept_id
    assert requests.get(f"{again['weaviate']['url']}/v1/schema/Kept", headers=bearer, timeout=10).status_code == 200


def test_a_killed_supervisor_should_leave_no_orphans_and_the_next_start_should_work(running: Stack) -> None:
    before = processes(running)
    before[0].kill()
    until(lambda: not [process for process in before if alive(process)], "all are gone with their supervisor")
    assert running.state()["phase"] == "stopped"
    stack.start(running.home.root, usual_ports=False, tied=True)
    assert answers(running) == WELL


def test_a_stack_of_a_test_run_should_end_with_the_run(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys\n"
        "from deploy.local import stack\n"
        "stack.start(pathlib.Path(sys.argv[1]), only=['postgres'], usual_ports=False, tied=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(code_root())}
    home = tmp_path / "home"
    done = subprocess.run([sys.executable, "-c", code, str(home)], env=env, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    left = stack.open_stack(home)
    assert left.state()["servers"]["postgres"]["state"] in {"ready", "stopped"}
    until(lambda: not left.running(), "the supervisor has noticed")
    left.delete_data()


def test_a_server_that_cannot_start_should_be_named_with_its_log_and_leave_nothing_running(tmp_path: Path) -> None:
    broken = stack.start(tmp_path / "home", only=["postgres"], usual_ports=False, tied=True)
    data = Path(broken.server("postgres")["data"])
    broken.stop()
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(StartError, match="postgres did not start: ended with status 1") as caught:
        stack.start(tmp_path / "home", only=["postgres"], usual_ports=False, tied=True)
    assert caught.value.name == "postgres"
    assert "incompatible" in caught.value.log
    assert "thalweg doctor" in caught.value.fix
    assert not broken.running()
    broken.delete_data()
    assert not data.exists()


def test_a_broker_elsewhere_should_be_used_and_not_started(running: Stack, tmp_path: Path) -> None:
    bootstrap = running.server("kafka")["bootstrap"]
    env = {**os.environ, "THALWEG_KAFKA__BOOTSTRAP": bootstrap}
    other = stack.start(tmp_path / "home", only=["kafka", "postgres"], usual_ports=False, tied=True, environ=env)
    try:
        assert other.server("kafka") == {"state": "external", "pid": None, "bootstrap": bootstrap}
        assert other.state()["settings"]["kafka"]["bootstrap"] == bootstrap
        assert not [child for child in processes(other) if child.name() == "java"]
    finally:
        other.stop()
        other.delete_data()
    kafka.probe(bootstrap)


def test_a_taken_port_should_not_stop_the_stack(tmp_path: Path) -> None:
    first = stack.start(tmp_path / "home", only=["postgres"], usual_ports=False, tied=True)
    port = int(first.server("postgres")["dsn"].rsplit(":", 1)[1].split("/")[0])
    first.stop()
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", port))
        taker.listen()
        stack.start(tmp_path / "home", only=["postgres"], usual_ports=False, tied=True)
        dsn = first.server("postgres")["dsn"]
        assert f":{port}/" not in dsn
        with psycopg.connect(dsn) as session:
            assert session.execute("SELECT 1").fetchone() == (1,)
        first.stop()
    first.delete_data()
