"""The database of the demo and the scenarios: PostgreSQL, ready to be read by Debezium.

Before: `parts` (its programs). After: `connectors` reads it by logical replication.

PostgreSQL refuses to be run by root. Started by root, it runs as `postgres`, or as `nobody` where there is no such
account, and its data folder belongs to that account. If that account cannot reach the stack's home (say, below
/root), the data go to /var/lib/thalweg/postgres-<hash of the home's path>, which `down --delete-data` removes too.
It listens on the loopback address only and has no Unix socket, so there is no second folder to reach.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg

from deploy.local.account import Account, account_for, can_reach
from deploy.local.errors import LocalStackError, NotReadyError
from deploy.local.server import Context, Server

USER = DATABASE = "thalweg"
FIRST_RUN_TIMEOUT_S = 120.0
PROBE_TIMEOUT_S = 3


def server(context: Context) -> Server:
    """How the database is run. Settings are in a file, so that `ALTER SYSTEM` can still overrule one."""
    account = account_for(os.geteuid())
    data = data_folder(context.home.data, account)
    password = context.home.postgres_password_file.read_text().strip()
    dsn = f"postgresql://{USER}:{password}@127.0.0.1:{context.ports['postgres']}/{DATABASE}"
    return Server(
        name="postgres",
        command=(str(context.parts["postgres"] / "postgres"), "-D", str(data)),
        env={"PGDATA": str(data), "LC_ALL": "C.UTF-8"},
        first_run=lambda: first_run(context, data, account, password),
        probe=lambda: probe(dsn),
        address={"dsn": dsn, "data": str(data)},
        settings={"postgres": {"dsn": dsn}},
        account=account,
        folder=data.parent,
        # "Fast": open sessions are ended; SIGTERM would wait for them.
        stop_signal=signal.SIGINT,
        # "Immediate": the server takes its children along; the next start replays the log.
        orphan_signal=signal.SIGQUIT,
    )


def settings_text(port: int) -> str:
    """thalweg.conf, included by postgresql.conf."""
    return f"""\
# Rendered at each start; use ALTER SYSTEM for changes of your own.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
wal_level = logical
max_wal_senders = 50
max_replication_slots = 50
# A forgotten slot must not fill the disk; a slot that falls behind further is lost, and noticed.
max_slot_wal_keep_size = '2GB'
wal_sender_timeout = '60s'
password_encryption = 'scram-sha-256'
# A source takes up to three.
max_connections = 200
shared_buffers = '64MB'
logging_collector = off
log_timezone = 'UTC'
timezone = 'UTC'
"""


def data_folder(data: Path, account: Account | None, elsewhere: Path = Path("/var/lib/thalweg")) -> Path:
    """Where the database lies: below the home, or in `elsewhere` if the account cannot get there."""
    if account is None or can_reach(data, account):
        return data / "postgres"
    digest = hashlib.sha256(str(data.parent).encode()).hexdigest()[:12]
    return elsewhere / f"postgres-{digest}"


def first_run(context: Context, data: Path, account: Account | None, password: str) -> None:
    """Make the cluster and its database unless they are there, whole or not at all, and write its settings."""
    if not (data / "PG_VERSION").is_file():
        data.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        making = data.with_name(f".making-{data.name}")
        if making.exists():
            shutil.rmtree(making)
        making.mkdir(mode=0o700)
        _give(making, account)
        password_file = making.with_suffix(".password")
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(password + "\n")
        _give(password_file, account)
        programs = context.parts["postgres"]
        try:
            initdb = [str(programs / "initdb"), "-D", str(making), "-U", USER, "--pwfile", str(password_file)]
            initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
            _run(initdb, account, making.parent)
            single = [str(programs / "postgres"), "--single", "-D", str(making), "-c", "listen_addresses="]
            _run([*single, "postgres"], account, making.parent, f"CREATE DATABASE {DATABASE};\n")
        finally:
            password_file.unlink()
        with (making / "postgresql.conf").open("a") as handle:
            handle.write("\ninclude = 'thalweg.conf'\n")
        _write_settings(making, context.ports["postgres"], account)
        making.rename(data)
    _write_settings(data, context.ports["postgres"], account)


def _write_settings(data: Path, port: int, account: Account | None) -> None:
    file = data / "thalweg.conf"
    file.write_text(settings_text(port))
    _give(file, account)


def _give(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)


def _run(command: Sequence[str], account: Account | None, folder: Path, text: str = "") -> None:
    done = subprocess.run(
        list(command), input=text, capture_output=True, text=True, timeout=FIRST_RUN_TIMEOUT_S, check=False, cwd=folder,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        user=account.uid if account else None, group=account.gid if account else None,
        extra_groups=[] if account else None,
    )  # fmt: skip
    if done.returncode != 0:
        raise LocalStackError(
            f"PostgreSQL's data folder could not be made: `{Path(command[0]).name}` failed with status "
            f"{done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}",
            "Is the disk full, or is the programs' folder closed to the account that runs them"
            f"{f' ({account.name})' if account else ''}?",
        )


def probe(dsn: str) -> None:
    """Ready when a session in our database answers. Raises `NotReadyError`."""
    try:
        with psycopg.connect(dsn, connect_timeout=PROBE_TIMEOUT_S) as session:
            session.execute("SELECT 1")
    except psycopg.Error as error:
        raise NotReadyError(f"PostgreSQL does not answer: {str(error).strip()}") from error
