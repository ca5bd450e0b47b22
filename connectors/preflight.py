"""Can this table be captured as its source asks? Every reason why not, each with the SQL that mends it.

Before this: `source.py` and `database.py`. After this: `plan.py`, which gets a specification with its key filled in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from connectors.database import Server, SourceTable, quoted
from schemas.source import SourceError, SourceSpec

READABLE = frozenset(
    (
        *("text", "varchar", "bpchar", "citext", "name", "char", "xml", "json", "jsonb", "uuid"),
        *("int2", "int4", "int8", "numeric", "float4", "float8", "money", "oid", "bool"),
        *("date", "time", "timetz", "timestamp", "timestamptz", "interval", "inet", "cidr", "macaddr"),
    )
)
"""Types whose values Debezium hands over as something that can be read as text."""


class Weight(StrEnum):
    """What a finding means: a refusal stops `apply`, advice does not."""

    REFUSAL = "refusal"
    ADVICE = "advice"


@dataclass(frozen=True)
class Finding:
    """Something about the database that matters; fix is SQL, or words where SQL cannot do it."""

    weight: Weight
    text: str
    fix: str


class SourceRefused(SourceError):
    """The database cannot be captured as the file asks. The text names every reason and its fix."""

    def __init__(self, name: str, findings: Sequence[Finding]) -> None:
        super().__init__(f"source {name}: " + " ".join(f"{found.text} Fix: {found.fix}" for found in findings))
        self.findings = tuple(findings)


@dataclass(frozen=True)
class CheckedSource:
    """A source that can be captured: the specification with its key filled in, and advice that does not stop it.

    key_is_primary: False if the key is another unique index, which Debezium must then be told.
    """

    spec: SourceSpec
    key_is_primary: bool = True
    advice: tuple[Finding, ...] = ()


def check_source(spec: SourceSpec, server: Server, table: SourceTable | None, *, slot_exists: bool) -> CheckedSource:
    """Judge a source by its server and table. Raises SourceRefused with all reasons at once."""
    if table is None:
        refusal = _refusal(f"There is no table {spec.schema}.{spec.table}.", "correct `table`, or create it")
        raise SourceRefused(spec.name, [refusal])
    checked, key_is_primary, found = _check_key(spec, table)
    found += _check_server(spec, server, table, slot_exists=slot_exists)
    found += _check_columns(checked, table)
    found += _check_identity(checked, table)
    if refusals := [finding for finding in found if finding.weight is Weight.REFUSAL]:
        raise SourceRefused(spec.name, refusals)
    return CheckedSource(checked, key_is_primary, tuple(found))


def _check_server(spec: SourceSpec, server: Server, table: SourceTable, *, slot_exists: bool) -> list[Finding]:
    found = []
    if server.wal_level != "logical":
        found.append(
            _refusal(
                f"wal_level is {server.wal_level}; changes can only be read where it is logical.",
                "ALTER SYSTEM SET wal_level = 'logical'; then restart PostgreSQL",
            )
        )
    if not server.may_replicate:
        found.append(
            _refusal(f"The role {server.role} may not replicate.", f"ALTER ROLE {quoted(server.role)} REPLICATION;")
        )
    if not table.readable:
        found.append(
            _refusal(
                f"The role {server.role} may not read {_where(spec)}.",
                f"GRANT SELECT ON {_where(spec)} TO {quoted(server.role)};",
            )
        )
    if server.free_slots < 1 and not slot_exists:
        found.append(
            _refusal(
                "Every replication slot is taken.",
                "ALTER SYSTEM SET max_replication_slots = 20; then restart PostgreSQL",
            )
        )
    if server.max_slot_wal_keep_mb < 0:
        found.append(
            _advice(
                "max_slot_wal_keep_size is unlimited: while the connector stands still, the log can fill the disk.",
                "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();",
            )
        )
    return found


def _check_key(spec: SourceSpec, table: SourceTable) -> tuple[SourceSpec, bool, list[Finding]]:
    where = _where(spec)
    if not spec.key and not table.primary_key:
        fix = f"ALTER TABLE {where} ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;"
        if "id" in table.columns:
            fix = f"ALTER TABLE {where} ADD PRIMARY KEY (id);"
        return spec, True, [_refusal(f"{where} has no primary key, so its rows cannot be told apart.", fix)]
    if not spec.key or set(spec.key) == set(table.primary_key):
        return replace(spec, key=table.primary_key), True, _check_deferrable(spec, table)
    for index, columns in table.unique_indexes.items():
        if set(columns) != set(spec.key):
            continue
        if table.replica_identity == "full" or table.identity_index == index:
            return replace(spec, key=columns), False, []
        fix = f"ALTER TABLE {where} REPLICA IDENTITY USING INDEX {quoted(index)};"
        return spec, False, [_refusal(f"The deletes of {where} do not carry the key {list(spec.key)}.", fix)]
    text = (
        f"The key {list(spec.key)} of {where} is neither its primary key {list(table.primary_key)} nor a unique index "
        "over columns that are never null."
    )
    return spec, False, [_refusal(text, "leave `key` out, or name such columns")]


def _check_deferrable(spec: SourceSpec, table: SourceTable) -> list[Finding]:
    """Where rows may take each other's keys, the log can tell of a key's new row before it tells that the old went.

    Besides, such a key is no replica identity: once published, the table's own updates fail under DEFAULT.
    """
    if table.deferrable_key is None:
        return []
    columns = ", ".join(quoted(column) for column in table.primary_key)
    fix = f"ALTER TABLE {_where(spec)} DROP CONSTRAINT {quoted(table.deferrable_key)}, ADD PRIMARY KEY ({columns});"
    text = f"The primary key of {_where(spec)} is deferrable: rows may take each other's keys, which the log tells in"
    return [_refusal(f"{text} an order that cannot be followed.", fix)]


def _check_columns(spec: SourceSpec, table: SourceTable) -> list[Finding]:
    found = []
    known = ", ".join(table.columns)
    if not spec.text_columns:
        found.append(_refusal("`text` names no column.", f"name one or more of {known}"))
    for column in spec.columns:
        kind = table.columns.get(column)
        if kind is None:
            found.append(_refusal(f"There is no column {column!r} in {_where(spec)}.", f"name one of {known}"))
        elif kind.element not in READABLE and not kind.enumeration:
            found.append(
                _refusal(
                    f"Column {column!r} is of type {kind.name}, which does not read as text.",
                    f"leave it out, or add a text column to {_where(spec)} that a trigger fills from it",
                )
            )
        elif kind.generated:
            found.append(
                _refusal(
                    f"Column {column!r} is generated; PostgreSQL does not replicate it.",
                    "name the columns that it is made from, or fill a plain column by a trigger",
                )
            )
        elif kind.array and column in (*spec.key, spec.title):
            found.append(_refusal(f"Column {column!r} is an array; a key or title cannot be one.", "name another"))
    access = table.columns.get(spec.access) if spec.access else None
    if access is not None and access.element not in ("text", "varchar", "bpchar", "citext"):
        found.append(
            _refusal(
                f"The access column {spec.access!r} is of type {access.name}.",
                "make it text[], or text with commas between the names",
            )
        )
    unnamed = [key for key in spec.filterable or () if key not in (spec.metadata or {})]
    if unnamed:
        found.append(_refusal(f"`filterable` names {unnamed}, which `metadata` does not.", "add them to `metadata`"))
    return found


def _check_identity(spec: SourceSpec, table: SourceTable) -> list[Finding]:
    full = f"ALTER TABLE {_where(spec)} REPLICA IDENTITY FULL;"
    if table.replica_identity == "nothing":
        return [_refusal(f"{_where(spec)} has REPLICA IDENTITY NOTHING: its updates and deletes are not seen.", full)]
    if table.replica_identity == "full":
        return []
    long = [column for column in spec.columns if column in table.columns and table.columns[column].toastable]
    if not long:
        return []
    text = (
        f"REPLICA IDENTITY is not FULL: an update that leaves a long {' or '.join(long)} alone does not carry it, and "
        "the row must be read from the database again."
    )
    return [_advice(text, full)]


def _where(spec: SourceSpec) -> str:
    return f"{quoted(spec.schema)}.{quoted(spec.table)}"


def _refusal(text: str, fix: str) -> Finding:
    return Finding(Weight.REFUSAL, text, fix)


def _advice(text: str, fix: str) -> Finding:
    return Finding(Weight.ADVICE, text, fix)
