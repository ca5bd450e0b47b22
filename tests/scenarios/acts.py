"""What a scenario does to a source besides SQL: at its slot, its connector, its topic, the capture worker.

Before this: `model.py` reads the words. After this: `test_scenarios.py` looks at what came of it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from random import Random

import psutil
import pytest

from connectors import apply as work
from connectors.connect import Connect
from connectors.database import DatabaseUnavailable, Slot
from connectors.debezium import object_name
from connectors.preflight import SourceRefused
from tests.scenarios.model import Act, Refusal
from tests.support.client import eventually
from tests.support.product import Product
from tests.support.raw_records import read_topic, send_records
from tests.support.source import TableSource

NOTICED_S = 90.0
"""Debezium looks whether its slot is the old one once it has streamed something: a heartbeat (10 s) and a restart."""

SEED = 20_260


def do_act(act: Act, source: TableSource) -> None:
    """Do it, and wait until it is done."""
    ACTS[act.act](act, source)


def refuse_and_mend(refusal: Refusal, source: TableSource) -> None:
    """See the table refused, with nothing made; then mend it by the very SQL that the refusal gives."""
    with pytest.raises(SourceRefused) as refused:
        source.apply()
    told = str(refused.value)
    with source.places() as (places, database):
        there = work.look(source.spec, places, database)
    assert (there.config, there.publication, there.slot, there.definition) == (None, None, None, None)
    for word in refusal.says:
        assert word in told, f"the refusal does not say {word!r}: {told}"
    for statement in refusal.fix:
        fix = source.query(statement).as_string(None)
        assert fix in told, f"the refusal does not give {fix!r}: {told}"
        source.execute(statement)


def _apply(act: Act, source: TableSource) -> None:
    epoch = source.apply(resnapshot=act.resnapshot, **act.source)
    assert act.epoch is None or epoch.number == act.epoch, epoch
    assert (act.renewal or "") in (epoch.renewal or ""), epoch


def _dropped(source: TableSource) -> bool:
    """Behind the connector's back. It takes the slot again at once, so dropping it may need several tries."""
    with source.places() as (_, database):
        try:
            database.drop_slot(object_name(source.spec.name))
        except DatabaseUnavailable as error:
            if "is active for PID" not in str(error):
                raise
        return database.slot(object_name(source.spec.name)) is None


def _create_slot(_: Act, source: TableSource) -> None:
    source.session.execute(
        "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (object_name(source.spec.name),)
    )


def _outrun_slot(_: Act, source: TableSource) -> None:
    """Let the server write more log than `max_slot_wal_keep_size` keeps for a slot that nobody reads.

    First the other slots are waited for, until none of them needs a log as old: the limit is the whole server's.
    """
    name, session = object_name(source.spec.name), source.session
    assert not _slot(source).active, "the slot is read: stop its connector first"
    # Also those that nobody reads at this moment: their connectors may just be starting anew.
    behind = (
        "SELECT slot_name, active, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) AS bytes "
        "FROM pg_replication_slots WHERE slot_name <> %s AND wal_status <> 'lost'"
    )
    for _segment in range(4):
        session.execute("SELECT pg_create_restore_point('tests')")  # an empty segment is not switched
        session.execute("SELECT pg_switch_wal()")

    def others_follow() -> bool:
        session.execute("CHECKPOINT")  # writes what lets a slot that follows give old log away
        late = [row for row in session.execute(behind, (name,)).fetchall() if row["bytes"] >= 16 << 20]
        assert not late, f"these slots would be lost too: {late}"
        return True

    def lost() -> bool:
        session.execute("CHECKPOINT")  # each time: the checkpointer may not have read the new setting yet
        return _slot(source).lost

    eventually(others_follow, 120, every_s=1.0)
    try:
        session.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '32MB'")
        session.execute("SELECT pg_reload_conf()")
        eventually(lambda: _keeps(source, "32MB"), 10)
        eventually(lost, 30, every_s=0.5)
    finally:
        session.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        session.execute("SELECT pg_reload_conf()")
    eventually(lambda: not _keeps(source, "32MB"), 10)


def _keeps(source: TableSource, size: str) -> bool:
    row = source.session.execute("SELECT current_setting('max_slot_wal_keep_size') AS size").fetchone()
    return row is not None and row["size"] == size


def _slot(source: TableSource) -> Slot:
    with source.places() as (_, database):
        slot = database.slot(object_name(source.spec.name))
    assert slot is not None, "there is no slot"
    return slot


def _connect(source: TableSource) -> Connect:
    return Connect(source.product.settings.connect.url)


def _replay(_: Act, source: TableSource) -> None:
    """Everything that the connector ever wrote for this source, twice more, in any order."""
    bootstrap = source.product.settings.kafka.bootstrap
    records = 2 * read_topic(bootstrap, source.spec.topic)
    Random(SEED).shuffle(records)  # the same order in every run
    send_records(bootstrap, source.spec.topic, records)


def _send_tombstones(_: Act, source: TableSource) -> None:
    """For each row that the topic knows a record without a value, as compaction's mark of a deletion is."""
    bootstrap = source.product.settings.kafka.bootstrap
    keys = {record.key: record for record in read_topic(bootstrap, source.spec.topic) if record.key is not None}
    assert keys, "the topic knows no row"
    send_records(bootstrap, source.spec.topic, [replace(record, value=None) for record in keys.values()])


def _hold_capture(_: Act, source: TableSource) -> None:
    _signal(_capture(source.product), signal.SIGSTOP, stopped=True)


def _release_capture(_: Act, source: TableSource) -> None:
    _signal(_capture(source.product), signal.SIGCONT, stopped=False)


def _capture(product: Product) -> psutil.Process:
    return psutil.Process(product.process("capture")["pid"])


def _signal(worker: psutil.Process, number: signal.Signals, *, stopped: bool) -> None:
    os.kill(worker.pid, number)
    eventually(lambda: (worker.status() == psutil.STATUS_STOPPED) is stopped, 10)


def _refused(act: Act, source: TableSource) -> None:
    with pytest.raises(SourceRefused) as refused:
        source.apply(**act.source)
    assert all(word in str(refused.value) for word in act.says), refused.value


def _drop_slot(_: Act, source: TableSource) -> None:
    eventually(lambda: _dropped(source), 30, every_s=0.05)


def _stop_connector(_: Act, source: TableSource) -> None:
    _connect(source).stop(source.spec.connector)
    eventually(lambda: not _slot(source).active, 30)


def _resume_connector(_: Act, source: TableSource) -> None:
    _connect(source).resume(source.spec.connector)


def _await_failed(_: Act, source: TableSource) -> None:
    def failed() -> bool:
        with source.places() as (places, database):
            found = work.status(source.spec, places, database)
        return not found.healthy and found.connector is not None and found.connector.failure is not None

    eventually(failed, NOTICED_S, every_s=0.5)


ACTS: dict[str, Callable[[Act, TableSource], None]] = {
    "apply": _apply,
    "refused": _refused,
    "drop_slot": _drop_slot,
    "create_slot": _create_slot,
    "outrun_slot": _outrun_slot,
    "stop_connector": _stop_connector,
    "resume_connector": _resume_connector,
    "await_failed": _await_failed,
    "replay_shuffled": _replay,
    "send_tombstones": _send_tombstones,
    "hold_capture": _hold_capture,
    "release_capture": _release_capture,
}
