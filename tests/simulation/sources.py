"""The sources: a table behind Debezium, as rows and as the records Connect writes of them, with its habits.

Before this: `histories.py` says what happens. After this: `broker.py` holds the records. Facts: Debezium PostgreSQL
connector, "Snapshots", "Data change events", "Behavior when things go wrong".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.source import SourceSpec, parse_source
from streams.core.changes import UNAVAILABLE

Row = Mapping[str, Any]
Rows = dict[str, Row]


TENANTS = ("t", "u")
_SOURCE = """
name: {name}
knowledge_base: kb
table: public.{name}
key: [id]
text: [title, body]
title: title
metadata: {{kind: category}}
access: readers
deleted: gone
"""
SPECS = {name: parse_source(_SOURCE.format(name=name)) for name in ("notes", "cards")}
"""notes: REPLICA IDENTITY DEFAULT; its rows may be read from the table. cards: FULL; its rows may be refused."""


@dataclass(frozen=True)
class Written:
    """One record of the write-ahead log as Debezium writes it. row: the whole row after it, whatever `after` says."""

    operation: str
    lsn: int
    at_ms: int
    key: str | None
    before: Row | None = None
    after: Row | None = None
    row: Row | None = None
    mark: str = "false"


@dataclass
class Table:
    """One captured table and its connector.

    full: REPLICA IDENTITY FULL, else an update that leaves the long column alone carries a placeholder for it.
    emit: writes one record to the topic, in an epoch.
    """

    spec: SourceSpec
    full: bool
    now_ms: Callable[[], int]
    emit: Callable[[Table, Written, int], None]
    end_old: Callable[[Table, int], None]
    rows: Rows = field(default_factory=dict)
    log: list[Written] = field(default_factory=list)
    states: list[Rows] = field(default_factory=lambda: [{}])
    lsn: int = 100
    epoch: int = 1
    sent: int = 0
    ended_epoch: int = 1
    snapshot: list[Written] = field(default_factory=list)
    snapshots: int = 0

    # What applications do.

    def put(self, key: str, values: Mapping[str, Any]) -> None:
        """Insert the row, or update these columns of it."""
        before = self.rows.get(key)
        after = {"id": key, "title": None, "category": None, "readers": None, "gone": None, "body": ""}
        after |= before or {}
        after |= values
        shown: dict[str, Any] = dict(after)
        if before is not None and not self.full and before["body"] == after["body"] and len(str(after["body"])) > 30:
            shown["body"] = UNAVAILABLE
        self.rows[key] = after
        operation = "c" if before is None else "u"
        self._write(operation, key, before=before if self.full else None, after=shown, row=after)

    def delete(self, key: str) -> None:
        """Delete the row, if it is there."""
        if key in self.rows:
            before = self.rows.pop(key)
            self._write("d", key, before=before if self.full else {"id": key})

    def rekey(self, old: str, new: str) -> None:
        """Change a row's key: a deletion and an insert of one LSN. An existing row of that name is swapped with it."""
        if old not in self.rows or old == new:
            return
        swapped = self.rows.get(new)
        if swapped is not None:
            self._move(new, "swap")
        self._move(old, new)
        if swapped is not None:
            self._move("swap", old)

    def truncate(self) -> None:
        """TRUNCATE: one record without a key."""
        self.rows.clear()
        self._write("t", None)

    def _move(self, old: str, new: str) -> None:
        row = {**self.rows.pop(old), "id": new}
        self._write("d", old, before={**row, "id": old} if self.full else {"id": old})
        self.rows[new] = row
        self._write("c", new, after=row, row=row, same_lsn=True)

    def _write(
        self,
        operation: str,
        key: str | None,
        *,
        before: Row | None = None,
        after: Row | None = None,
        row: Row | None = None,
        same_lsn: bool = False,
    ) -> None:
        self.lsn += 0 if same_lsn else 1
        self.log.append(Written(operation, self.lsn, self.now_ms(), key, before, after, row))
        self.states.append(dict(self.rows))

    # What Debezium does.

    @property
    def behind(self) -> int:
        """Records not yet in the topic."""
        return len(self.snapshot) + len(self.log) - self.sent + (self.ended_epoch != self.epoch)

    def send(self, count: int) -> None:
        """Write the next records: the snapshot's first, then streamed ones. At its end a new epoch ends the old."""
        for _ in range(count):
            if self.snapshot:
                self.emit(self, self.snapshot.pop(0), self.epoch)
            elif self.ended_epoch != self.epoch:
                self.ended_epoch = self.epoch
                self.end_old(self, self.epoch)
            elif self.sent < len(self.log):
                self.sent += 1
                self.emit(self, self.log[self.sent - 1], self.epoch)

    def crash(self, back: int) -> None:
        """Connect died: what was not yet noted as sent is sent once more; a snapshot begins anew."""
        if self.snapshot:
            first, begun = self._first, self._begun
            self.take_snapshot(0)
            if back % 2:  # the slot outlived the attempt: it streams all since
                self._first = self.sent = first
            if not self.snapshot:
                # Of no rows, so it has to be the slot that tells what has gone since the first attempt.
                self._first = self.sent = begun
            self._begun = begun
        else:
            self.sent = max(self._first, self.sent - back)

    def lose_slot(self, open_changes: int) -> None:
        """The slot is lost with all it had not sent; a new epoch begins with a snapshot, perhaps of a restored copy."""
        self.epoch += 1
        if open_changes == 0:
            self.lsn, self._renumbered = 50, len(self.log)
        self.take_snapshot(open_changes)

    def take_snapshot(self, open_changes: int) -> None:
        """Begin a snapshot that does not see the last changes: they were not yet committed, and are streamed after it.

        A snapshot of no rows says nothing, so an attempt that was cut off is only begun anew where there are rows.
        """
        self._begun = self._first = self.sent = max(self._renumbered, len(self.log) - open_changes)
        seen = self.states[self.sent]
        self.lsn += 1
        self.snapshots += 1
        marks = ["true"] * (len(seen) - 1) + ["last"]
        self.snapshot = [
            Written("r", self.lsn, self.now_ms(), key, None, row, row, mark)
            for (key, row), mark in zip(seen.items(), marks, strict=False)
        ]

    def read_again(self, key: str) -> None:
        """An incremental snapshot comes by a row: as the stream has brought it so far, with the LSN it has come to."""
        row = self.states[self.sent].get(key)
        if row is None or self.snapshot or not self.sent or self.ended_epoch != self.epoch:
            return
        lsn = self.log[self.sent - 1].lsn
        self.emit(self, Written("r", lsn, self.now_ms(), key, None, row, row, "incremental"), self.epoch)

    _first: int = 0
    _begun: int = 0
    _renumbered: int = 0


def tenant_of(_: SourceSpec) -> str:
    return TENANTS[0]
