"""Everything together: sources, broker, stages with their workers, shared collections, a clock moved by hand.

Before this: `histories.py` says what happens, action by action. After this: `judge.py` watches and gives the verdict.
"""

from __future__ import annotations

import contextlib
import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from prometheus_client import CollectorRegistry

from runtime.metrics import Metrics, declare
from schemas.codec import DecodeError
from schemas.records import DocumentChange, Embedding, Event, Operation, Origin, Position, Receipt, Upload, document_key
from streams.ports import Inbound, Vector
from streams.steps.capture import EPOCH_HEADER
from streams.steps.sweep import sweep
from tests.simulation.broker import Broker
from tests.simulation.codec import RememberingCodec
from tests.simulation.judge import Accepted, Broken, Judge, Rank
from tests.simulation.outside import UNREADABLE
from tests.simulation.process import Fault, Group, Process
from tests.simulation.sources import SPECS, TENANTS, Row, Table, Written, tenant_of
from tests.simulation.stages import loop_of
from tests.simulation.store import (
    CRASHING,
    REFUSED,
    UNSTORABLE,
)
from tests.support.fake_index import FakeIndex


@dataclass(frozen=True)
class Shape:
    """How large a world is: partitions of `documents`, workers and records at once of each stage."""

    partitions: int = 2
    workers: Mapping[str, int] = field(default_factory=lambda: {"capture": 2, "parse": 1, "index": 2})
    batch: int = 4
    slice_texts: int = 2
    drain: int = 0

    @property
    def thorough(self) -> bool:
        """Whether records really become bytes."""
        return self.drain % 8 == 0


class World:
    """One history's world. Every public method is one thing that can happen; `finish` brings it to rest."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.ms = 1_000
        self.codec = RememberingCodec(thorough=shape.thorough)
        self.metrics = _metrics()
        self.stores = {tenant: FakeIndex() for tenant in TENANTS}
        self.judge = Judge(self.stores, marks_race=bool(shape.workers.get("bulk")) or shape.partitions > 1)
        captured = {spec.topic: 2 for spec in SPECS.values()}
        topics = {"events": 2, "uploads": 1, "documents": shape.partitions}
        self.broker = Broker(
            lambda: self.ms,
            {**topics, **captured, "receipts": 1, "embeddings": 1, "dead-letters": 1},
            self._appended,
        )
        self.blobs: dict[str, str] = {}
        self.embeddings: dict[tuple[str, str], Vector] = {}
        self.tables = {
            name: Table(spec, name == "cards", lambda: self.ms, self._emit, self._end_old)
            for name, spec in SPECS.items()
        }
        self.groups = {
            "capture": Group("thalweg-capture", ["events", *captured]),
            "parse": Group("thalweg-parse", ["uploads"]),
            "index": Group("thalweg-index", ["documents"]),
        }
        if shape.workers.get("bulk"):
            # Two lanes share the work: of one document's changes, and of barriers, each takes any.
            self.groups["bulk"] = Group("thalweg-index-bulk", ["documents"], takes=_bulk)
            self.groups["index"].takes = lambda record: not _bulk(record)
        self._ranks: dict[str, Rank] = {}
        self._junk: list[str] = []
        self.counts = {"deaths": 0, "embedded": 0, "rebalances": 0, "runs": 0, "swept": 0}
        for stage, group in self.groups.items():
            for number in range(shape.workers[stage]):
                group.members.append(self._process(stage, f"{stage}-{number}"))
            group.rebalance(self.broker)

    # What happens to sources.

    def publish(self, tenant: str, name: str, text: str | None) -> None:
        """An event: a document's text, or its deletion."""
        event = Event(tenant, "kb", name, delete=text is None, text=text)
        record = self.broker.append("events", event.key.encode(), self.codec.encode("events", event))
        self._accept(record, tenant, event.key, text)

    def upload(self, tenant: str, name: str, text: str) -> None:
        """A file: its bytes are stored, then the claim is written."""
        blob = f"blob:{len(self.blobs)}"
        self.blobs[blob] = text
        upload = Upload(blob, tenant, "kb", name, f"{name}.txt", "txt", len(text), "", blob)
        record = self.broker.append("uploads", upload.key.encode(), self.codec.encode("uploads", upload))
        self._accept(record, tenant, upload.key, text)

    def junk(self, topic: str, partition: int, value: bytes) -> None:
        """A record that nobody can read."""
        record = self.broker.append(topic, b"junk", value, partition=partition)
        self._junk.append(f"{record.topic}/{record.partition}@{record.offset}")

    def _accept(self, record: Inbound, tenant: str, document: str, text: str | None) -> None:
        position = f"{record.topic}/{record.partition}@{record.offset}"
        rank = (record.timestamp_ms, 1 if record.topic == "uploads" else 0, record.offset)
        self._ranks[position] = rank
        self.judge.accept(
            Accepted(
                tenant, position, document, "", rank, "gone" if text is None else "text", text or "", *_refused(text)
            )
        )

    def _emit(self, table: Table, written: Written, epoch: int) -> None:
        """The connector writes one record, and after a deletion its echo."""
        spec = table.spec
        body = {
            "op": written.operation,
            "before": written.before,
            "after": written.after,
            "source": {"lsn": written.lsn, "ts_ms": written.at_ms, "snapshot": written.mark},
        }
        key = None if written.key is None else self.codec.foreign({"id": written.key})
        headers = [(EPOCH_HEADER, str(epoch).encode())]
        partition = written.lsn if key is None else None
        record = self.broker.append(spec.topic, key, self.codec.foreign(body), headers, partition)
        position = f"{record.topic}/{record.partition}@{record.offset}"
        rank = (epoch, 0 if written.operation == "r" else 1, written.lsn)
        self._ranks[position] = rank
        tenant = tenant_of(spec)
        if written.operation == "t":
            self._accept_end(table, position, rank, told=True)
            return
        document = document_key(tenant, "kb", f"{spec.name}:{written.key}")
        gone = written.row is None or written.row["gone"] is not None
        text = None if gone else _text(cast(Row, written.row))
        self.judge.accept(
            Accepted(
                tenant, position, document, spec.name, rank, "gone" if gone else "text", text or "", *_refused(text)
            )
        )
        if written.mark == "last":
            self._accept_end(table, position, rank, told=False)
        if written.operation == "d":
            self.broker.append(spec.topic, key, None, headers)

    def _end_old(self, table: Table, epoch: int) -> None:
        """What `thalweg sources apply` does after the snapshot of a new epoch: a barrier into each partition."""
        spec, tenant = table.spec, tenant_of(table.spec)
        rank = (epoch, 0, 0)
        position = f"sources/0@{epoch}{len(spec.name)}"
        self._ranks[position] = rank
        change = DocumentChange(
            tenant, "kb", f"source:{spec.name}", Operation.BARRIER, Position(spec.stream, epoch, 0, 0, self.ms),
            Origin("cdc", spec.name, "renewed", "sources", 0, int(f"{epoch}{len(spec.name)}")),
        )  # fmt: skip
        self._accept_end(table, position, rank, told=True)
        for number in range(self.shape.partitions):
            self.broker.append("documents", change.key.encode(), self.codec.encode("documents", change), (), number)

    def _accept_end(self, table: Table, position: str, rank: Rank, *, told: bool) -> None:
        tenant = tenant_of(table.spec)
        document = f"{tenant}/kb/source:{table.spec.name}"
        self.judge.accept(Accepted(tenant, position, document, table.spec.name, rank, "ends", told=told))

    def first_snapshot(self, table: str, unseen: int) -> None:
        """The connector begins: with a snapshot of what is there. Later it begins anew only with a new epoch."""
        found = self.tables[table]
        if not found.sent and not found.snapshots and found.rows:
            found.take_snapshot(unseen)

    # What happens to workers.

    def processes(self) -> list[Process]:
        """All that live."""
        return [member for group in self.groups.values() for member in group.members]

    def run(self, worker: int, steps: int, until: str = "") -> None:
        """One worker goes on for so many points, at most until it is about to call this method of the index."""
        members = self.processes()
        process = members[worker % len(members)]
        if process.wake_ms <= self.ms and process.work:
            process.until = until
            self._run(process, steps)
            process.until = ""

    def fault(self, worker: int, fault: Fault) -> None:
        """One worker meets this soon."""
        members = self.processes()
        members[worker % len(members)].faults.append(fault)

    def kill(self, worker: int) -> None:
        """`kill -9`; its supervisor starts it anew."""
        members = self.processes()
        members[worker % len(members)].kill()

    def expel(self, worker: int) -> None:
        """One worker is taken for dead; it goes on with what it holds, and others with its partitions."""
        process = self.processes()[worker % len(self.processes())]
        self.counts["rebalances"] += 1
        process.group.rebalance(self.broker, without=process)

    def join(self, group: int) -> None:
        """Every worker of a group is a member again."""
        found = list(self.groups.values())[group % len(self.groups)]
        self.counts["rebalances"] += 1
        found.rebalance(self.broker)

    def wait(self, ms: int) -> None:
        """Time passes."""
        self.ms += ms

    def _run(self, process: Process, steps: int) -> None:
        self.counts["runs"] += 1
        process.run(steps)

    def _ended(self, process: Process) -> None:
        """A worker died: another of its name takes its place, from the committed offsets."""
        self.counts["deaths"] += 1
        if process.doubted:
            self.judge.orphans |= process.wrote
        group = process.group
        stage = next(stage for stage, found in self.groups.items() if found is group)
        group.members[group.members.index(process)] = self._process(stage, process.name)
        group.rebalance(self.broker)

    # To rest.

    def finish(self, most: int = 20_000) -> None:
        """Bring everything to rest, faults over, zombies and all; then the verdict. Raises Broken."""
        rng = random.Random(self.shape.drain)
        for process in self.processes():
            process.faults.clear()
        for _ in range(most):
            self.ms += 1
            busy = [process for process in self.processes() if process.work]
            awake = [process for process in busy if process.wake_ms <= self.ms]
            behind = [table for table in self.tables.values() if table.behind]
            if behind and (not awake or rng.random() < 0.3):
                rng.choice(behind).send(rng.randint(1, 3))
            elif awake:
                self._run(rng.choice(awake), rng.choice((0, 1, 2, 5, 40)))
            elif busy:
                self.ms = min(process.wake_ms for process in busy)
            elif self._lag():
                for group in self.groups.values():
                    group.rebalance(self.broker)
                    for member in group.members:
                        member.positions = {
                            place: self.broker.committed.get((group.name, place), 0) for place in member.positions
                        }
            else:
                break
        else:
            raise Broken(f"no rest after {most} steps: lag {self._lag()}")
        self._settle_junk()
        self.judge.verdict(swept=False)
        self.sweep()
        self.judge.verdict(swept=True)
        self._same_as_tables()
        self.counts["holes"] = self.judge.holes

    def sweep(self) -> None:
        """The sweep runs, at once, whatever the workers are amid."""
        for tenant, store in self.stores.items():

            def look(_: str, document: str, tenant: str = tenant) -> None:
                self.judge.look(tenant, document)

            view = FakeIndex(store.chunks, store.stored, store.superseded, after_effect=look)
            view.of_document = store.of_document
            self.counts["swept"] += sweep(tenant, index=view, at_ms=self.ms)

    def close(self) -> None:
        """End every worker, so that its thread is free for the next history."""
        self._ended_is_noise()
        for process in self.processes():
            process.kill()

    def _ended_is_noise(self) -> None:
        for process in self.processes():
            process.ended = lambda _: None

    def _lag(self) -> int:
        return sum(self.broker.lag(group.name, group.topics) for group in self.groups.values())

    def _settle_junk(self) -> None:
        for position in self._junk:
            if not self.judge.parked.get(position):
                raise Broken(f"{position}: a record that nobody can read was not parked")

    def _same_as_tables(self) -> None:
        """The model's own check: where nothing was refused, what it expects of a table is what the table holds."""
        expected = self.judge.expected()
        for table in self.tables.values():
            prefix = f"{tenant_of(table.spec)}/kb/{table.spec.name}:"
            found = {d: text for d, text in expected[tenant_of(table.spec)].items() if d.startswith(prefix)}
            rows = {prefix + key: _text(row) for key, row in table.rows.items() if row["gone"] is None}
            refused = any(_refused(text)[0] for text in rows.values()) or self._refused_before(prefix)
            if found != rows and not refused:
                raise Broken(f"the simulation is wrong: {found} is expected, the table holds {rows}")

    def _refused_before(self, prefix: str) -> bool:
        return any(
            item.refused and item.document.startswith(prefix)
            for several in self.judge.inputs.values()
            for item in several
        )

    # How a worker is made.

    def _process(self, stage: str, name: str) -> Process:
        return Process(
            name, self.groups[stage], self.broker, self.shape.batch, lambda: self.ms,
            lambda process: loop_of(self, stage, process), self._ended,
        )  # fmt: skip

    def _appended(self, record: Inbound) -> None:
        """Every record that comes into a topic is seen by the judge."""
        if record.topic == "receipts":
            self.judge.receipt(self.codec.decode(record.value or b"", Receipt))
        elif record.topic == "embeddings":
            item = self.codec.decode(record.value or b"", Embedding)
            self.embeddings[item.tenant, item.text_hash] = np.frombuffer(item.vector, "<f4")
        elif record.topic == "documents" and record.value in self.codec.known:
            change = self.codec.decode(record.value or b"", DocumentChange)
            self.judge.captured(change, self._ranks[change.origin.receipt_position])
        elif record.topic == "dead-letters":
            position = "{}/{}@{}".format(
                *(record.header(f"__streams.errors.{name}") for name in ("topic", "partition", "offset"))
            )
            if record.header("thalweg.stage") == "index":
                with contextlib.suppress(DecodeError):
                    position = self.codec.decode(record.value or b"", DocumentChange).origin.receipt_position
            self.judge.park(position, record.header("__streams.errors.exception") or "")


def _bulk(record: Inbound) -> bool:
    return bulk(record.partition, record.offset, record.timestamp_ms)


def bulk(partition: int, offset: int, ms: int) -> bool:
    """Whether a record goes by the bulk lane: as good as drawn, and no respecter of documents."""
    return zlib.crc32(b"%d %d %d" % (partition, offset, ms)) % 2 == 1


def _text(row: Row) -> str:
    return f"{row['title'] or ''}\n\n{row['body'] or ''}".strip()


def _refused(text: str | None) -> tuple[Any, str]:
    """The stage at which a text is refused, and why; two empty texts if it is taken."""
    for word, (stage, why) in _REFUSALS.items():
        if word in (text or ""):
            return stage, why
    return "", ""


_REFUSALS = {
    UNREADABLE: ("parse", "corrupt"),
    REFUSED: ("index", "embedding_rejected"),
    CRASHING: ("index", "unexpected"),
    UNSTORABLE: ("index", "index_refused"),
}
"""What the words mean that no text is taken with."""


_DECLARED: list[Metrics] = []


def _metrics() -> Metrics:
    """Counted by all worlds together: nobody reads them, and to declare them takes as long as a history."""
    if not _DECLARED:
        _DECLARED.append(declare(CollectorRegistry()))
    return _DECLARED[0]
