"""The capture stage: a row change or a published event becomes a document change in the topic `documents`.

Before this: CDC topics (Debezium) and `events`. After this: `index.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from schemas.codec import Codec
from schemas.lanes import Lane
from schemas.records import SNAPSHOT_END, DocumentChange, Event, Origin
from schemas.source import SourceSpec
from streams.core.changes import (
    NotAChange,
    Row,
    barrier,
    event_change,
    read_envelope,
    row_change,
    unavailable_columns,
)
from streams.core.lanes import LaneRules
from streams.core.outcomes import Done, Outcome, Rejected, Retry
from streams.ports import ChangeLog, Clock, Inbound, PermanentFailure, TemporaryFailure
from streams.steps.failures import failed_receipt, outcome_of, waits
from streams.steps.protection import Protect

EPOCH_HEADER = "thalweg.epoch"
"""The connector puts the source's epoch on each record; without the header it is 1."""

_LONGEST_EPOCH = 9


class RowReader(Protocol):
    """Reads a row as the source holds it now."""

    def read(self, spec: SourceSpec, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row's columns, None if it is gone. Raises TemporaryFailure, PermanentFailure."""
        ...


@dataclass(frozen=True)
class CapturedSource:
    """A source that is captured: its tenant and its definition."""

    tenant: str
    spec: SourceSpec


@dataclass(frozen=True)
class CaptureStep:
    """Step of the stage `capture`. sources: by the name of their topic, as the worker began with them.
    applied: the same as they are at the moment of the call; raises TemporaryFailure. protection: as Protection.now.

    A source may be applied anew while a worker runs, which is then started anew. Until it is, the source's records
    wait: they may belong to the new definition, and by the old one be mapped wrongly, or parked. So a change committed
    after `sources apply` has returned is mapped by what was applied.
    """

    codec: Codec
    log: ChangeLog
    rows: RowReader
    clock: Clock
    sources: Mapping[str, CapturedSource]
    applied: Callable[[], Mapping[str, CapturedSource]]
    protection: Callable[[], Protect]
    lanes: LaneRules = field(default_factory=LaneRules)
    name: str = "capture"

    async def handle(self, batch: Sequence[Inbound]) -> list[Outcome]:
        """As Step.handle; in a thread, for the broker's word is waited for."""
        return await asyncio.to_thread(self.handle_now, batch)

    def handle_now(self, batch: Sequence[Inbound]) -> list[Outcome]:
        """As handle, in the caller's thread."""
        outcomes: list[Outcome] = []
        changes: dict[int, list[tuple[DocumentChange, Lane]]] = {}
        usable = self._usable({record.topic for record in batch})
        try:
            protect = self.protection()
        except TemporaryFailure as error:
            return [waits(error)] * len(batch)
        for at, record in enumerate(batch):
            taken = self._take(record, usable, protect)
            if isinstance(taken, list):
                now = self.clock.now_ms()
                changes[at] = [(replace(change, captured_ms=now), self._lane(record, change)) for change in taken]
                outcomes.append(Done("captured"))
            else:
                outcomes.append(taken)
                if isinstance(taken, Retry):
                    # What follows may be a later change of the same document: it waits too, so that order is kept.
                    # Whatever this record meets, the others are not at fault, and never parked for it.
                    outcomes += [replace(taken, limited=False)] * (len(batch) - at - 1)
                    break
        for at, outcome in self._append(changes).items():
            outcomes[at] = outcome
        return outcomes

    async def failed(self, record: Inbound, outcome: Rejected) -> None:
        """As Step.failed: a caller may be waiting for a published event."""
        # As it came: of the document a receipt tells no more than its names.
        if record.topic != "events" or record.value is None:
            return
        try:
            change = self._event(record.first_seen())
        except Exception:  # noqa: BLE001  whatever it is, nobody knows whose event this was
            return
        await asyncio.to_thread(self.log.receipts, [failed_receipt(change, outcome, self.clock.now_ms())])

    def _usable(self, topics: Collection[str]) -> dict[str, CapturedSource]:
        """Of these topics' sources those that are still applied as they were; none if that cannot be told now."""
        mine = {topic: self.sources[topic] for topic in topics if topic in self.sources}
        if not mine:
            return {}
        try:
            now = self.applied()
        except TemporaryFailure:
            return {}
        return {topic: source for topic, source in mine.items() if now.get(topic) == source}

    def _take(
        self, record: Inbound, usable: Mapping[str, CapturedSource], protect: Protect
    ) -> list[DocumentChange] | Outcome:
        if record.value is None:
            return Done("tombstone")  # a deletion's echo for compaction; the deletion itself came before it
        try:
            first = record.first_seen()
            if record.topic == "events":
                return [protect(self._own(self._event(first)))]
            if record.topic not in usable:
                return Retry(f"{record.topic}: its source was applied anew, or the list of sources could not be read")
            return [protect(change) for change in self._row(first, usable[record.topic])]
        except Exception as error:  # noqa: BLE001  every one has its class
            return outcome_of(error)

    def _lane(self, record: Inbound, change: DocumentChange) -> Lane:
        hint = Lane.of(record.headers)
        return self.lanes.captured(change, hint=hint, at_ms=record.timestamp_ms)

    def _event(self, record: Inbound) -> DocumentChange:
        assert record.value is not None  # noqa: S101  seen by the caller
        event = self.codec.decode(record.value, Event)
        if record.key is not None and record.key != event.key.encode():
            raise NotAChange("its key is not that of its document, so it lies beside the document's other events")
        origin = Origin("event", event.source, event.id, record.topic, record.partition, record.offset)
        return event_change(event, origin, timestamp_ms=record.timestamp_ms)

    def _own(self, change: DocumentChange) -> DocumentChange:
        """The event's change. A publisher that gives itself the name of a table's source is refused.

        Hits tell where a text came from, and filters and caps go by it: it must be true.
        """
        for source in self.sources.values():
            if (source.tenant, source.spec.name) == (change.tenant, change.origin.source):
                raise PermanentFailure("borrowed_source", f"{source.spec.name!r} is a table's source, and no publisher")
        return change

    def _row(self, record: Inbound, source: CapturedSource) -> list[DocumentChange]:
        assert record.value is not None  # noqa: S101  seen by the caller
        spec = source.spec
        key = None if record.key is None else self.codec.decode_any(record.key)
        epoch = _epoch(record)
        row = read_envelope(spec, key, self.codec.decode_any(record.value), epoch=epoch)
        fetched = self._fetch(spec, row) if unavailable_columns(spec, row) else None
        reference = ",".join(str(value) for value in row.key.values())
        origin = Origin("cdc", spec.name, reference, record.topic, record.partition, record.offset)
        changes = [row_change(source.tenant, spec, row, origin, fetched=fetched)]
        if row.ends_snapshot:
            changes.append(barrier(source.tenant, spec, row, replace(origin, ref=SNAPSHOT_END)))
        return changes

    def _fetch(self, spec: SourceSpec, row: Row) -> Mapping[str, Any]:
        """The row as it is now. It may be newer than the change: then the newer change follows, and says the same."""
        found = self.rows.read(spec, row.key)
        if found is None:
            # Gone since: its deletion follows in this very topic, so any text will do until then; none is best.
            return dict.fromkeys(spec.columns)
        return found

    def _append(self, changes: Mapping[int, list[tuple[DocumentChange, Lane]]]) -> dict[int, Outcome]:
        """Append all; where one is not deliverable (too large), each for itself."""
        if not changes:
            return {}
        try:
            self.log.changes([change for several in changes.values() for change in several])
            return {}
        except TemporaryFailure as error:
            return dict.fromkeys(changes, waits(error))
        except PermanentFailure as error:
            if len(changes) == 1:
                return dict.fromkeys(changes, Rejected(error.reason, error.detail))
        outcomes: dict[int, Outcome] = {}
        for at, several in changes.items():
            outcomes |= self._append({at: several})
        return outcomes


def _epoch(record: Inbound) -> int:
    """The source's epoch as the connector put it on the record. Raises NotAChange."""
    given = record.header(EPOCH_HEADER) or "1"
    if not (given.isascii() and given.isdigit()) or len(given) > _LONGEST_EPOCH:
        raise NotAChange(f"the header {EPOCH_HEADER} is no number")
    return int(given)
