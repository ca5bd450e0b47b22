"""`thalweg sources` against real PostgreSQL, Connect, Debezium, registry and Kafka: what is made, what arrives, what is
found again after faults.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from typer.testing import CliRunner, Result

from connectors import apply as work
from connectors import source_commands
from connectors.database import Database
from connectors.source import load_source
from deploy.local.stack import Stack
from runtime.settings import Settings, load_settings
from schemas.codec import Codec
from schemas.records import SNAPSHOT_END, DocumentChange, Operation, SourceDefinition
from schemas.registry import Registry
from schemas.source import SourceSpec

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

UNAVAILABLE = "__debezium_unavailable_value"


@dataclass(frozen=True)
class Change:
    """One record of a source's topic, decoded."""

    partition: int
    key: dict[str, Any] | None
    value: dict[str, Any] | None
    headers: dict[str, bytes]


class Place:
    """A table of this test's own, its source file, and what lies in Kafka of it."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.name = f"s{uuid.uuid4().hex[:10]}"
        self.file = folder / "source.yaml"
        self.codec = Codec(Registry(settings.registry.url))
        assert settings.postgres.dsn is not None
        self.dsn = settings.postgres.dsn.get_secret_value()
        self.database = psycopg.connect(self.dsn, autocommit=True)
        self.database.execute(f"CREATE TABLE {self.name} (id int PRIMARY KEY, title text, body text, tags text[])")
        self.write(f"name: {self.name}\nknowledge_base: kb\ntable: {self.name}\ntext: [title, body]\n")

    def write(self, text: str) -> None:
        """Give the source another file."""
        self.file.write_text(text)

    @property
    def spec(self) -> SourceSpec:
        return load_source(self.file)

    def run(self, *arguments: str) -> Result:
        """`thalweg sources ...` on the file."""
        command, *options = arguments
        return CliRunner().invoke(source_commands.app, [command, str(self.file), *options])

    def done(self, *arguments: str) -> dict[str, Any]:
        """The command's JSON; it must succeed."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        told: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
        return told

    def sql(self, *statements: str) -> None:
        for statement in statements:
            self.database.execute(statement.replace("TABLE_", self.name).encode())

    def slot(self) -> tuple[Any, ...] | None:
        """(active, confirmed_flush_lsn) of the source's slot."""
        found = self.database.execute(
            "SELECT active, confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s",
            (f"thalweg_{self.name}",),
        ).fetchone()
        return None if found is None else tuple(found)

    def connector(self) -> requests.Response:
        url = f"{self.settings.connect.url}/connectors/thalweg-{self.name}/config"
        return requests.get(url, timeout=10)

    def drop_slot(self) -> None:
        """Behind the connector's back, as a failover without slots does."""
        with Database(self.dsn) as database:
            until(lambda: _dropped(database, f"thalweg_{self.name}"), "the slot is dropped")

    def changes(self, until_there: Callable[[list[Change]], bool]) -> list[Change]:
        """The records of the source's topic, oldest first, once they are as wanted."""
        found: list[Change] = []

        def look() -> bool:
            found[:] = [self._decoded(message) for message in read_all(self.settings, self.spec.topic)]
            return until_there(found)

        until(look, f"the changes in {self.spec.topic}", lambda: str(found))
        return found

    def barriers(self) -> list[tuple[int, DocumentChange]]:
        """The barriers in `documents` that a command sent for this source, with their partitions.

        Those that capture makes of a snapshot's last row are its own business.
        """
        found = []
        for message in read_all(self.settings, "documents"):
            value = message.value()
            if value is not None:
                change = self.codec.decode(value, DocumentChange)
                sent = change.origin.source == self.name and change.origin.ref != SNAPSHOT_END
                if change.operation is Operation.BARRIER and sent:
                    found.append((message.partition() or 0, change))
        return found

    def definitions(self) -> list[SourceDefinition]:
        """Every definition stored of this source, oldest first."""
        values = [message.value() for message in read_all(self.settings, "sources")]
        decoded = [self.codec.decode(value, SourceDefinition) for value in values if value is not None]
        return [definition for definition in decoded if definition.name == self.name]

    def _decoded(self, message: Message) -> Change:
        key, value = message.key(), message.value()
        return Change(
            message.partition() or 0,
            None if key is None else self.codec.decode_any(key),
            None if value is None else self.codec.decode_any(value),
            {name: text for name, text in message.headers() or []},  # noqa: C416
        )


@pytest.fixture
def place(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    made = Place(load_settings(folder=tmp_path), tmp_path)
    try:
        yield made
    finally:
        made.write(f"name: {made.name}\nknowledge_base: kb\ntable: {made.name}\ntext: body\n")
        assert made.run("remove", "--delete-documents").exit_code == 0
        made.sql("DROP TABLE IF EXISTS TABLE_")
        made.database.close()


def test_plan_changes_nothing_and_apply_twice_changes_nothing_more(place: Place) -> None:
    plan = place.done("plan")
    assert {step["what"]: step["action"] for step in plan["steps"] if step["what"] != "heartbeat table"} == {
        "publication": "create",
        "connector": "create",
        "definition": "create",
    }
    assert place.connector().status_code == 404
    assert place.definitions() == []
    assert place.slot() is None

    assert place.done("apply")["changed"]
    again = place.done("apply")
    assert not again["changed"]
    assert {step["action"] for step in again["steps"]} == {"keep"}
    assert place.run("apply").stdout.endswith("Nothing changed: all is as the file says.\n")
    assert [definition.epoch for definition in place.definitions()] == [1]
    assert load_key(place) == ("id",)
    published = place.database.execute(
        "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = %s ORDER BY 1",
        (f"thalweg_{place.name}",),
    ).fetchall()
    assert published == [(f"public.{place.name}",), ("public.thalweg_heartbeat",)]
    status = place.done("status")
    assert status["healthy"]
    assert (status["connector"]["state"], status["tasks"][0]["state"], status["epoch"]) == ("RUNNING", "RUNNING", 1)
    assert status["snapshot_done"]


def test_no_password_is_readable_in_connect_or_in_the_output(place: Place) -> None:
    place.done("apply")
    password = Database(place.dsn).address.password
    assert password
    config = place.connector()
    assert config.status_code == 200
    assert config.json()["database.password"].startswith("${directory:")
    told = "".join(place.run(command).output for command in ("plan", "apply", "status"))
    assert password not in config.text + told


def test_every_kind_of_change_arrives_as_a_record(place: Place) -> None:
    place.sql("INSERT INTO TABLE_ VALUES (1, 'one', 'first', '{x,y}')")
    place.done("apply")
    place.sql(
        "INSERT INTO TABLE_ VALUES (2, 'two', 'second')",
        "UPDATE TABLE_ SET title = 'Two' WHERE id = 2",
        "UPDATE TABLE_ SET id = 20 WHERE id = 2",
        "UPDATE TABLE_ SET body = (select string_agg(md5(i::text), '') from generate_series(1, 2000) i) WHERE id = 1",
        "UPDATE TABLE_ SET title = 'One' WHERE id = 1",
        "DELETE FROM TABLE_ WHERE id = 20",
        "TRUNCATE TABLE_",
        "ALTER TABLE TABLE_ ADD COLUMN extra text DEFAULT 'e'",
        "INSERT INTO TABLE_ (id, body) VALUES (3, 'third')",
    )
    found = place.changes(lambda changes: any(c.value and (c.value["after"] or {}).get("id") == 3 for c in changes))
    assert {change.headers["thalweg.epoch"] for change in found} == {b"1"}
    of = {number: [c for c in found if c.key == {"id": number}] for number in (1, 2, 3, 20)}

    snapshot, edited, titled = of[1]
    assert snapshot.value is not None
    assert (snapshot.value["op"], snapshot.value["after"]) == (
        "r",
        {"id": 1, "title": "one", "body": "first", "tags": ["x", "y"]},
    )
    assert edited.value is not None
    assert edited.value["op"] == "u"
    assert len(edited.value["after"]["body"]) == 64_000
    assert titled.value is not None
    # A long column that an update leaves alone does not arrive.
    assert (titled.value["after"]["title"], titled.value["after"]["body"]) == ("One", UNAVAILABLE)

    created, changed, deleted, tombstone = of[2]
    assert [c.value and c.value["op"] for c in (created, changed, deleted, tombstone)] == ["c", "u", "d", None]
    assert deleted.value is not None
    assert deleted.value["after"] is None
    assert deleted.value["before"]["id"] == 2
    # A key change is a deletion and a creation, which know of each other.
    assert json.loads(deleted.headers["__debezium.newkey"]) == {"id": 20}
    assert json.loads(of[20][0].headers["__debezium.oldkey"]) == {"id": 2}
    assert [c.value and c.value["op"] for c in of[20]] == ["c", "d", None]

    (truncated,) = [c for c in found if c.key is None]
    assert truncated.value is not None
    assert (truncated.value["op"], truncated.value["before"], truncated.value["after"]) == ("t", None, None)
    assert of[3][0].value is not None
    assert of[3][0].value["after"]["extra"] == "e"
    lsns = {c.value["source"]["lsn"] for c in found if c.value}
    assert all(isinstance(lsn, int) for lsn in lsns)
    assert truncated.value["source"]["lsn"] < of[3][0].value["source"]["lsn"]


def test_types_arrive_as_text_that_can_be_read(place: Place) -> None:
    place.sql(
        "CREATE TYPE TABLE__mood AS ENUM ('good')",
        "ALTER TABLE TABLE_ ADD COLUMN n numeric(10,2), ADD COLUMN j jsonb, ADD COLUMN u uuid,"
        " ADD COLUMN at timestamptz, ADD COLUMN d date, ADD COLUMN local timestamp,"
        " ADD COLUMN m TABLE__mood, ADD COLUMN ok boolean",
        "INSERT INTO TABLE_ (id, n, j, u, at, d, local, m, ok) VALUES (1, 1.50, '{\"a\": 1}', "
        "'6f9619ff-8b86-d011-b42d-00cf4fc964ff', '2026-01-02 03:04:05+02', '2026-01-02', '2026-01-02 03:04', 'good',"
        " true)",
    )
    try:
        columns = "[n, j, u, at, d, local, m, ok]"
        place.write(f"name: {place.name}\nknowledge_base: kb\ntable: {place.name}\ntext: body\nmetadata: {columns}\n")
        place.done("apply")
        (row,) = place.changes(lambda changes: len(changes) == 1)
        assert row.value is not None
        after = row.value["after"]
        assert {name: after[name] for name in ("n", "j", "u", "m", "ok")} == {
            "n": "1.50",
            "j": '{"a": 1}',
            "u": "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
            "m": "good",
            "ok": True,
        }
        assert after["at"].startswith("2026-01-02T01:04:05")
        assert after["d"].startswith("2026-01-02")
        assert after["local"].startswith("2026-01-02T03:04:00")
    finally:
        place.sql("ALTER TABLE TABLE_ DROP COLUMN m", "DROP TYPE TABLE__mood")


def test_a_quiet_table_lets_the_log_go_while_others_write(place: Place) -> None:
    place.done("apply")
    place.sql("INSERT INTO TABLE_ VALUES (1, 'one', 'first')")
    place.changes(lambda changes: len(changes) == 1)
    (before,) = place.database.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone() or ("",)
    place.sql("CREATE TABLE TABLE__busy AS SELECT g AS id, md5(g::text) AS body FROM generate_series(1, 20000) g")
    try:

        def moved() -> bool:
            found = place.database.execute(
                "SELECT confirmed_flush_lsn > %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s",
                (before, f"thalweg_{place.name}"),
            ).fetchone()
            return bool(found and found[0])

        until(moved, "the slot moves on by heartbeats", str, seconds=45)
    finally:
        place.sql("DROP TABLE TABLE__busy")


def test_a_lost_slot_begins_a_new_epoch_that_ends_what_was_deleted_meanwhile(place: Place) -> None:
    place.sql("INSERT INTO TABLE_ VALUES (1, 'one', 'first'), (2, 'two', 'second')")
    place.done("apply")
    place.changes(lambda changes: len(changes) == 2)
    place.drop_slot()
    place.sql("DELETE FROM TABLE_ WHERE id = 1")
    status = place.run("status", "--json")
    assert status.exit_code == 1
    assert "sources apply" in json.loads(status.stdout)["fix"]
    assert "replication slot is gone" in place.done("plan")["renewal"]
    assert place.barriers() == []

    assert place.done("apply")["epoch"] == 2
    found = place.changes(lambda changes: any(c.headers["thalweg.epoch"] == b"2" for c in changes))
    anew = [c for c in found if c.headers["thalweg.epoch"] == b"2"]
    assert [(c.key, c.value and c.value["op"]) for c in anew] == [({"id": 2}, "r")]
    barriers = place.barriers()
    partitions = {partition for partition, _ in barriers}
    assert partitions == set(range(6))
    assert {(b.position.stream, b.position.epoch, b.position.major) for _, b in barriers} == {(place.spec.stream, 2, 0)}
    assert [definition.epoch for definition in place.definitions()][-1] == 2
    assert not place.done("apply")["changed"]
    assert place.done("status")["healthy"]


def test_a_slot_made_again_by_somebody_else_is_noticed(place: Place) -> None:
    """Debezium compares once it has streamed something: that takes a heartbeat (10 s) at most."""
    place.done("apply")
    place.sql("INSERT INTO TABLE_ VALUES (1, 'one', 'first')")
    place.changes(lambda changes: len(changes) == 1)
    offsets = f"{place.settings.connect.url}/connectors/thalweg-{place.name}/offsets"
    until(lambda: "lsn_proc" in requests.get(offsets, timeout=10).text, "the connector stored how far it read")
    with Database(place.dsn) as database:
        until(lambda: _dropped(database, f"thalweg_{place.name}"), "the slot is dropped")
        place.sql("DELETE FROM TABLE_", "INSERT INTO TABLE_ VALUES (2, 'two', 'second')")
        place.database.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (f"thalweg_{place.name}",))
    until(lambda: place.run("status").exit_code == 1, "the source is told to be unwell", seconds=90)
    assert "made anew" in place.done("plan")["renewal"]
    assert place.done("apply")["epoch"] == 2
    assert place.done("status")["healthy"]


def test_a_failed_connector_is_started_again_by_apply(place: Place) -> None:
    place.done("apply")
    secret = place.settings.home / "secrets" / "connectors" / f"source-{place.name}-password"
    password = secret.read_text()
    url = f"{place.settings.connect.url}/connectors/thalweg-{place.name}"
    restarted: list[str] = []
    for _ in range(4):
        secret.write_text("wrong")
        requests.post(f"{url}/restart?includeTasks=true", timeout=10)
        until(lambda: "FAILED" in requests.get(f"{url}/status", timeout=10).text, "the task fails", seconds=90)
        assert place.run("status").exit_code == 1
        secret.write_text(password)
        told = place.done("apply")
        assert told["renewal"] is None
        assert place.done("status")["healthy"]
        restarted = [step["what"] for step in told["steps"] if step["action"] == "restart"]
        if restarted:
            break  # else the upload API, which looks after failed tasks as well, was quicker
    assert restarted == ["connector"]


def test_a_renewal_that_is_cut_off_is_finished_by_the_next_apply(place: Place) -> None:
    place.sql("INSERT INTO TABLE_ VALUES (1, 'one', 'first')")
    place.done("apply")

    class CutOff(Exception):
        pass

    def cut(text: str) -> None:
        if text.endswith("changes are streamed"):
            raise CutOff

    with source_commands._session(place.file, None, keep_password=True) as session:
        prepared = work.prepare(session.spec, session.places, session.database, resnapshot=True)
        with pytest.raises(CutOff):
            work.apply(prepared, session.places, session.database, wait_s=120, progress=cut)
    assert place.barriers() == []
    assert [definition.epoch for definition in place.definitions()][-1] == 1

    told = place.done("apply")
    assert (told["epoch"], told["renewal"]) == (2, "an earlier apply was cut off")
    assert len(place.barriers()) == 6
    assert not place.done("apply")["changed"]


def test_a_changed_definition_is_stored_and_resnapshot_takes_all_rows_anew(place: Place) -> None:
    place.sql("INSERT INTO TABLE_ VALUES (1, 'one', 'first')")
    place.done("apply")
    place.write(f"name: {place.name}\nknowledge_base: kb\ntable: {place.name}\ntext: body\ntitle: title\n")
    told = place.done("apply")
    assert [step["what"] for step in told["steps"] if step["action"] == "update"] == ["definition"]
    assert "--resnapshot" in told["notes"][0]
    assert place.done("apply", "--resnapshot")["epoch"] == 2
    found = place.changes(lambda changes: len(changes) == 2)
    assert [c.headers["thalweg.epoch"] for c in found] == [b"1", b"2"]


def test_removal_leaves_nothing_running_and_a_later_apply_begins_a_new_epoch(place: Place) -> None:
    place.sql("INSERT INTO TABLE_ VALUES (1, 'one', 'first')")
    place.done("apply")
    assert {step["what"] for step in place.done("remove")["steps"] if step["action"] == "delete"} == {
        *("connector", "slot", "publication", "definition"),
    }
    assert place.connector().status_code == 404
    assert place.slot() is None
    assert place.definitions()[-1].removed
    assert place.barriers() == []
    assert not place.done("remove")["changed"]

    place.done("remove", "--delete-documents")
    assert {barrier.position.epoch for _, barrier in place.barriers()} == {2}
    assert place.done("apply")["epoch"] == 2
    assert (place.definitions()[-1].epoch, place.definitions()[-1].removed) == (2, False)
    place.changes(lambda changes: [c.headers["thalweg.epoch"] for c in changes] == [b"1", b"2"])


def test_a_table_that_cannot_be_captured_is_refused_with_the_sql_and_nothing_is_made(place: Place) -> None:
    place.sql(
        "ALTER TABLE TABLE_ DROP CONSTRAINT " + f"{place.name}_pkey", "ALTER TABLE TABLE_ REPLICA IDENTITY NOTHING"
    )
    result = place.run("apply")
    assert result.exit_code == 1
    assert "has no primary key" in result.output
    assert "ADD PRIMARY KEY (id);" in result.output
    assert "REPLICA IDENTITY FULL;" in result.output
    assert place.connector().status_code == 404
    assert place.definitions() == []


def test_a_connector_that_cannot_connect_says_why(place: Place) -> None:
    result = place.run("apply", "--password-ref", "wrong", "--timeout", "30")
    assert result.exit_code == 1
    assert "password authentication failed" in result.output
    assert "Traceback" not in result.output


def test_a_transaction_open_while_the_slot_is_made_comes_with_an_older_lsn_than_the_snapshot(place: Place) -> None:
    """What positions must bear: by LSN alone, the snapshot's old row would beat the newer change.

    Three transactions, each held open until the server waits for it, bring the slot to the moment in which it is
    consistent while a change made before that moment is not yet committed.
    """
    place.sql("INSERT INTO TABLE_ VALUES (1, 'one', 'old')")
    first, second, third = (psycopg.connect(place.dsn) for _ in range(3))
    try:
        held = _transaction(first)
        pending = _Apply(place)
        _await_waiter(place, held)
        held = _transaction(second)
        first.commit()
        _await_waiter(place, held)
        third.execute(f"UPDATE {place.name} SET body = 'new' WHERE id = 1".encode())  # noqa: S608  # our own name
        second.commit()
        pending.join()
        third.commit()
    finally:
        for connection in (first, second, third):
            connection.close()
    snapshot, change = place.changes(lambda changes: len(changes) == 2)
    assert snapshot.value is not None
    assert change.value is not None
    assert (snapshot.value["op"], snapshot.value["after"]["body"]) == ("r", "old")
    assert (change.value["op"], change.value["after"]["body"]) == ("u", "new")
    assert change.value["source"]["lsn"] < snapshot.value["source"]["lsn"]


class _Apply:
    """`apply` in a thread."""

    def __init__(self, place: Place) -> None:
        self._result: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=lambda: self._result.append(place.done("apply")))
        self._thread.start()

    def join(self) -> None:
        self._thread.join(120)
        assert self._result, "apply did not end well"


def _transaction(connection: psycopg.Connection[Any]) -> str:
    """Begin one that has a number, which others can wait for."""
    found = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
    assert found is not None
    return str(found[0])


def _await_waiter(place: Place, transaction: str) -> None:
    query = "SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted AND transactionid = %s::text::xid"
    until(lambda: bool(place.database.execute(query, (transaction,)).fetchall()), f"somebody waits for {transaction}")


def _dropped(database: Database, slot: str) -> bool:
    """The connector takes the slot again at once, so dropping it may need several tries."""
    try:
        database.drop_slot(slot)
    except Exception as error:
        if "is active for PID" not in str(error):
            raise
    return database.slot(slot) is None


def load_key(place: Place) -> tuple[str, ...]:
    from schemas.source import parse_source

    return parse_source(place.definitions()[-1].definition).key


def until(condition: Callable[[], bool], what: str, told: Callable[[], str] = str, *, seconds: float = 60) -> None:
    """Ask until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s not: {what} {told()}"
        time.sleep(0.2)


def read_all(settings: Settings, topic: str) -> list[Message]:
    """Every record of a topic, by time; none if there is no such topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka.bootstrap,
            "group.id": "thalweg-tests",
            "enable.auto.commit": False,
            "allow.auto.create.topics": False,
        },
        logger=None,
    )
    try:
        known = consumer.list_topics(timeout=10).topics.get(topic)
        if known is None:
            return []
        left: dict[int, int] = {}
        for number in known.partitions:
            start, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
            if end > start:
                left[number] = end
        consumer.assign([TopicPartition(topic, number, 0) for number in left])
        found: list[Message] = []
        deadline = time.monotonic() + 30
        while left and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                found.append(message)
            for position in consumer.position([TopicPartition(topic, number) for number in left]):
                if position.offset >= left[position.partition]:
                    del left[position.partition]
        return sorted(found, key=lambda message: message.timestamp()[1])
    except KafkaException as error:
        # A topic that was made this moment has no leader yet.
        if error.args[0].code() not in (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE):
            raise
        return []
    finally:
        consumer.close()
