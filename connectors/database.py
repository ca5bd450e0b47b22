"""A source's PostgreSQL: what its catalog says, and the few objects we keep in it (publication, heartbeat, slot).

Before this: the DSN. After this: `preflight.py` judges, `plan.py` compares, `apply.py` changes. Reading changes
nothing: each read is its own read-only transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

HEARTBEAT_TABLE = "thalweg_heartbeat"
"""One row a source in the schema public, touched by the connector, so that a quiet table does not hold the log."""

_IDENTITIES = {"d": "default", "n": "nothing", "f": "full", "i": "index"}


class DatabaseUnavailable(Exception):
    """The database did not answer, or refused the caller. The text holds host and database, never a password."""


class DatabaseRefused(Exception):
    """The database does not let the role do it. The text names the object and what the role needs."""


@dataclass(frozen=True)
class Address:
    """Where a database is, for a program that does not speak libpq. password is secret."""

    host: str
    port: int
    name: str
    user: str
    password: str | None = None
    sslmode: str | None = None

    def __repr__(self) -> str:
        return f"Address({self.user}@{self.host}:{self.port}/{self.name})"


@dataclass(frozen=True)
class Server:
    """What matters of the server and of our role there. max_slot_wal_keep_mb is -1 where there is no limit."""

    wal_level: str
    role: str
    may_replicate: bool
    max_slot_wal_keep_mb: int
    free_slots: int


@dataclass(frozen=True)
class Column:
    """A column's type: its name as SQL writes it, the bare type (of an array: its element's), and what else matters.

    toastable: a long value may lie outside the row, and is then left out of an update that does not change it.
    generated: computed by the database, which does not replicate it.
    """

    name: str
    element: str = "text"
    array: bool = False
    enumeration: bool = False
    toastable: bool = False
    generated: bool = False


@dataclass(frozen=True)
class SourceTable:
    """A table as the catalog knows it. unique_indexes: those over columns that are never null, by name.

    deferrable_key: the primary key's constraint, if it may be checked late; rows can then take each other's keys.
    """

    columns: Mapping[str, Column]
    primary_key: tuple[str, ...]
    unique_indexes: Mapping[str, tuple[str, ...]]
    replica_identity: str
    identity_index: str | None
    readable: bool
    deferrable_key: str | None = None


@dataclass(frozen=True)
class Slot:
    """A replication slot. active: its changes are being streamed. lag_bytes: log written since it last confirmed.

    confirmed_lsn is the place up to which its reader needs no log any more, as a number.
    """

    active: bool
    wal_status: str | None
    lag_bytes: int | None
    confirmed_lsn: int | None

    @property
    def lost(self) -> bool:
        """True if the log that the slot needs is gone: changes were missed for good."""
        return self.wal_status == "lost"


def address_of(dsn: str) -> Address:
    """The address a DSN (URL or key=value) names. Raises DatabaseUnavailable if it is no DSN."""
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise DatabaseUnavailable("the DSN is neither a postgresql:// URL nor key=value pairs") from error
    user = str(parts.get("user") or "postgres")
    password = parts.get("password")
    return Address(
        host=str(parts.get("host") or "127.0.0.1"),
        port=int(parts.get("port") or 5432),
        name=str(parts.get("dbname") or user),
        user=user,
        password=None if password is None else str(password),
        sslmode=None if parts.get("sslmode") is None else str(parts["sslmode"]),
    )


class Database:
    """One connection to a source's database. Use as a context manager."""

    def __init__(self, dsn: str, *, timeout_s: float = 10.0) -> None:
        self.address = address_of(dsn)
        try:
            self._connection = psycopg.connect(
                dsn,
                autocommit=True,
                row_factory=dict_row,
                connect_timeout=int(timeout_s),
                application_name="thalweg",
                options=f"-c statement_timeout={int(timeout_s * 1000)} -c lock_timeout={int(timeout_s * 1000)}",
            )
        except psycopg.Error as error:
            raise DatabaseUnavailable(f"{self.address}: {_first_line(error)}") from error

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def server(self) -> Server:
        """The settings that change capture needs."""
        row = self._one(
            """
            SELECT current_setting('wal_level') AS wal_level, current_user::text AS role,
                   (r.rolreplication OR r.rolsuper) AS may_replicate,
                   (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS keep_mb,
                   current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots) AS free
            FROM pg_roles r WHERE r.rolname = current_user
            """
        )
        return Server(row["wal_level"], row["role"], row["may_replicate"], int(row["keep_mb"]), int(row["free"]))

    def table(self, schema: str, name: str) -> SourceTable | None:
        """The table, None if there is none."""
        found = self._all(
            """
            SELECT c.oid, c.relreplident, has_table_privilege(c.oid, 'SELECT') AS readable
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')
            """,
            (schema, name),
        )
        if not found:
            return None
        oid = found[0]["oid"]
        indexes = self._all(
            """
            SELECT i.relname AS name, x.indisprimary, x.indisreplident, x.indimmediate,
                   array_agg(a.attname::text ORDER BY k.place) AS columns, bool_and(a.attnotnull) AS never_null
            FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
            CROSS JOIN LATERAL unnest(x.indkey) WITH ORDINALITY AS k(attnum, place)
            JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
            WHERE x.indrelid = %s AND x.indisunique AND x.indisvalid AND x.indpred IS NULL AND x.indexprs IS NULL
              AND k.place <= x.indnkeyatts
            GROUP BY i.relname, x.indisprimary, x.indisreplident, x.indimmediate
            """,
            (oid,),
        )
        return SourceTable(
            columns=self._columns(oid),
            primary_key=next((tuple(row["columns"]) for row in indexes if row["indisprimary"]), ()),
            unique_indexes={
                row["name"]: tuple(row["columns"]) for row in indexes if row["never_null"] and row["indimmediate"]
            },
            replica_identity=_IDENTITIES[found[0]["relreplident"]],
            identity_index=next((row["name"] for row in indexes if row["indisreplident"]), None),
            readable=found[0]["readable"],
            deferrable_key=next(
                (row["name"] for row in indexes if row["indisprimary"] and not row["indimmediate"]), None
            ),
        )

    def publication(self, name: str) -> frozenset[str] | None:
        """The tables a publication carries, as `schema.table`; None if there is no such publication."""
        if not self._all("SELECT 1 FROM pg_publication WHERE pubname = %s", (name,)):
            return None
        rows = self._all(
            """
            SELECT n.nspname || '.' || c.relname AS name FROM pg_publication p
            JOIN pg_publication_rel r ON r.prpubid = p.oid
            JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE p.pubname = %s
            """,
            (name,),
        )
        return frozenset(row["name"] for row in rows)

    def slot(self, name: str) -> Slot | None:
        """The replication slot, None if there is none."""
        rows = self._all(
            """
            SELECT active, wal_status, (confirmed_flush_lsn - '0/0')::bigint AS confirmed,
                   pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint AS lag
            FROM pg_replication_slots WHERE slot_name = %s
            """,
            (name,),
        )
        return Slot(rows[0]["active"], rows[0]["wal_status"], rows[0]["lag"], rows[0]["confirmed"]) if rows else None

    def has_heartbeat(self) -> bool:
        """True if the heartbeat table is there."""
        return bool(self._all("SELECT 1 WHERE to_regclass(%s) IS NOT NULL", (f"public.{HEARTBEAT_TABLE}",)))

    def make_heartbeat(self) -> None:
        """Make the heartbeat table; one that is there stays. Raises DatabaseRefused."""
        try:
            self._do(
                sql.SQL(
                    "CREATE TABLE IF NOT EXISTS public.{} "
                    "(source text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
                ).format(sql.Identifier(HEARTBEAT_TABLE)),
                "the role needs CREATE on the schema public, for the heartbeat table",
            )
        except DatabaseUnavailable:
            # IF NOT EXISTS does not see the table that another `apply` is making at this moment.
            if not self.has_heartbeat():
                raise

    def set_publication(self, name: str, tables: frozenset[str]) -> None:
        """Make the publication carry exactly these tables (`schema.table`). Raises DatabaseRefused."""
        listed = sql.SQL(", ").join(sql.Identifier(*table.split(".", 1)) for table in sorted(tables))
        need = f"the role needs to own {', '.join(sorted(tables))} and CREATE on the database"
        if self.publication(name) is None:
            options = sql.SQL("(publish = 'insert, update, delete, truncate', publish_via_partition_root = true)")
            self._do(
                sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH {}").format(sql.Identifier(name), listed, options),
                need,
            )
        else:
            self._do(sql.SQL("ALTER PUBLICATION {} SET TABLE {}").format(sql.Identifier(name), listed), need)

    def drop_publication(self, name: str) -> None:
        """Drop the publication; one that is not there is no error."""
        self._do(sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(name)), "the role must own it")

    def drop_slot(self, name: str) -> None:
        """Drop the slot, ending who still reads it; one that is not there is no error. Raises DatabaseRefused."""
        self._do(
            sql.SQL(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
                "WHERE slot_name = {name} AND active_pid IS NOT NULL"
            ).format(name=sql.Literal(name)),
            "the role needs pg_signal_backend",
        )
        self._do(
            sql.SQL(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {name}"
            ).format(name=sql.Literal(name)),
            "the role needs REPLICATION",
        )

    def _columns(self, oid: int) -> dict[str, Column]:
        rows = self._all(
            """
            SELECT a.attname::text AS column, format_type(a.atttypid, a.atttypmod) AS name,
                   coalesce(d.typname, e.typname, t.typname)::text AS element, (e.oid IS NOT NULL) AS is_array,
                   (coalesce(d.typtype, e.typtype, t.typtype) = 'e') AS is_enum,
                   (a.attlen = -1 AND a.attstorage IN ('x', 'e')) AS toastable,
                   (a.attgenerated <> '') AS is_generated
            FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
            LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
            LEFT JOIN pg_type d ON d.oid = t.typbasetype AND t.typtype = 'd'
            WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
            """,
            (oid,),
        )
        return {
            row["column"]: Column(
                row["name"], row["element"], row["is_array"], row["is_enum"], row["toastable"], row["is_generated"]
            )
            for row in rows
        }

    def _one(self, query: str, values: tuple[Any, ...] = ()) -> dict[str, Any]:
        return self._all(query, values)[0]

    def _all(self, query: str, values: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        try:
            return self._connection.execute(query, values).fetchall()
        except psycopg.Error as error:
            raise DatabaseUnavailable(f"{self.address}: {_first_line(error)}") from error

    def _do(self, statement: sql.Composed, need: str) -> None:
        try:
            self._connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege as error:
            raise DatabaseRefused(f"{self.address}: {_first_line(error)}; {need}") from error
        except psycopg.Error as error:
            raise DatabaseUnavailable(f"{self.address}: {_first_line(error)}") from error


def quoted(name: str) -> str:
    """A name quoted as SQL wants it, for a fix that a person copies."""
    return sql.Identifier(name).as_string(None)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
