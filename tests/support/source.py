"""A table of a test's own as a source: made, applied, written to, followed to its last receipt, and removed.

Before this: `product.py`. After this: scenarios and kill tests. `apply` is the command's own code, in this process.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import yaml
from psycopg import sql
from psycopg.rows import dict_row

from connectors import apply as work
from connectors.connect import Connect
from connectors.database import Database
from connectors.definitions import Definitions
from connectors.plan import Epoch
from connectors.secrets import local_secrets
from connectors.source import to_yaml
from runtime.producer import ConfirmedProducer
from runtime.topic_tail import TopicTail
from schemas.records import Receipt, document_key
from schemas.source import SourceSpec, parse_source
from tests.support.client import eventually
from tests.support.connector_threads import threads_of
from tests.support.oracle import differences
from tests.support.product import Product
from tests.support.quiesce import Receipts, quiesce
from tests.support.raw_records import parked

APPLY_S = 120.0


@dataclass(frozen=True)
class Captured:
    """A change as the connector wrote it, and where."""

    position: str
    partition: int
    key: bytes | None
    value: bytes


@dataclass(frozen=True)
class Settled:
    """Changes that ended: what the connector wrote, the last receipt of each, and the reason of each parked one.

    embedded: texts that were embedded for them. A change that is handed in twice has two receipts, and the second one
    embeds nothing, so all count.
    """

    records: list[Captured]
    receipts: list[Receipt]
    parked: list[str]
    embedded: int


class TableSource:
    """One table, its source, and what Kafka and the receipts say of it. `make_source` makes one."""

    def __init__(self, product: Product, spec: SourceSpec, receipts: Receipts) -> None:
        self.product = product
        self.spec = spec
        self.receipts = receipts
        self._settled = 0
        self._changed = threading.Condition()
        self._records: list[Captured] = []
        self._parked: dict[str, str] = {}
        dsn = product.settings.postgres.dsn
        assert dsn is not None
        self._dsn = dsn.get_secret_value()
        self.session = psycopg.connect(self._dsn, autocommit=True, row_factory=dict_row)
        self._tail: TopicTail | None = None

    @property
    def positions(self) -> list[str]:
        """Of every change the connector has written so far; a deletion's tombstone is none."""
        with self._changed:
            return [record.position for record in self._records]

    @property
    def records(self) -> list[tuple[str, bytes]]:
        """Position and value of every change the connector has written so far."""
        with self._changed:
            return [(record.position, record.value) for record in self._records]

    def reconnect(self) -> None:
        """A new session, where the old one was lost. Raises psycopg.OperationalError."""
        self.session.close()
        self.session = psycopg.connect(self._dsn, autocommit=True, row_factory=dict_row, connect_timeout=5)

    def read_to_end(self, within_s: float) -> None:
        """Return once every record that the source's topic holds now was read. Fails after `within_s`."""
        assert self._tail is not None, "the source is not applied"
        deadline = time.monotonic() + within_s
        for (_, partition), end in self.product.topics.offsets([self.spec.topic]).items():
            left = max(0.0, deadline - time.monotonic())
            assert end == 0 or self._tail.wait_read(partition, end - 1, left), f"partition {partition} was not read"

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Run one statement, or without values several, in one transaction. `{table}` in it is the table's name."""
        self.session.execute(self.query(statement), values or None)

    def another_session(self) -> psycopg.Connection[dict[str, Any]]:
        """A connection of one's own to the database, for a second writer; the caller closes it."""
        return psycopg.connect(self._dsn, autocommit=True, row_factory=dict_row)

    def query(self, statement: str) -> sql.Composed:
        """The statement with the table's name in it, and for `{tag}` a word that no earlier source had.

        Texts with the tag were never embedded before, also if the index was used by other tests.
        """
        table, tag = sql.Identifier(self.spec.schema, self.spec.table), self.spec.name.rpartition("_")[2]
        return sql.SQL(statement).format(table=table, tag=sql.SQL(tag))

    def apply(self, *, resnapshot: bool = False, **changed: Any) -> Epoch:
        """Apply the source and wait until changes are streamed; the epoch it is in then.

        changed: fields of its file that are now others (None: left out). Raises SourceRefused, NotRunning.
        """
        raw = yaml.safe_load(to_yaml(self.spec)) | changed
        spec = parse_source(yaml.safe_dump({name: value for name, value in raw.items() if value is not None}))
        with self.places() as (places, database):
            prepared = work.prepare(spec, places, database, resnapshot=resnapshot)
            work.apply(prepared, places, database, wait_s=APPLY_S, progress=_quiet)
        self.spec = prepared.checked.spec
        if self._tail is None:
            self._tail = TopicTail(self.product.settings.kafka.bootstrap, self.spec.topic, self._take)
            self._tail.start()
        return prepared.plan.epoch

    def places(self) -> AbstractContextManager[tuple[work.Places, Database]]:
        """What `thalweg sources` works with."""
        return _places(self.product, self.spec, self._dsn)

    def remove(self) -> None:
        """End source and documents, and drop the table."""
        if self._tail is not None:
            self._tail.close()
        with self.places() as (places, database):
            work.remove(self.spec, places, database, delete_documents=True, progress=_quiet)
        self.execute("DROP TABLE IF EXISTS {table}")
        self.session.close()
        self.product.topics.delete([self.spec.topic])

    def status(self) -> work.SourceStatus:
        """How connector, slot and definition are now."""
        with self.places() as (places, database):
            return work.status(self.spec, places, database)

    def settle(self, changes: int, within_s: float = 60.0, *, parked: int = 0) -> Settled:
        """Wait until this many more changes are captured and ended, and so many of them among the dead letters.

        The capture worker takes up a new source by starting anew, which is part of the wait.
        """
        wanted = self._settled + changes
        return self._settle(lambda: len(self._records) >= wanted, lambda: wanted, within_s, parked)

    def settle_to(self, text: str, count: int, within_s: float = 60.0) -> Settled:
        """Wait until the changes that hold this text, and all that came before them, are captured and ended.

        They must lie in every partition, as each is in order by itself.
        """

        def there() -> bool:
            lasts = [record.partition for record in self._records if text.encode() in record.value]
            return len(lasts) >= count and set(lasts) >= {record.partition for record in self._records}

        return self._settle(there, lambda: len(self._records), within_s, 0)

    def _settle(self, there: Callable[[], bool], end: Callable[[], int], within_s: float, dead: int) -> Settled:
        deadline = time.monotonic() + within_s
        with self._changed:
            came = self._changed.wait_for(there, within_s)
            if not came:
                found = len(self._records) - self._settled
                threads = threads_of(self.product, self.spec.name)
                raise AssertionError(
                    f"only {found} changes came from the connector; it is now: {self.status()}\n{threads}"
                )
            mine = self._records[self._settled : end()]
        self._settled += len(mine)
        if dead:
            eventually(lambda: self._dead(mine) >= dead, max(0.0, deadline - time.monotonic()), every_s=0.5)
        whole = [record.position for record in mine if record.position not in self._parked]
        ended = self.receipts.wait(whole, max(0.0, deadline - time.monotonic())) if whole else {}
        reasons = [self._parked[record.position] for record in mine if record.position in self._parked]
        embedded = sum(receipt.embedded for position in whole for receipt in ended[position])
        return Settled(mine, [ended[position][-1] for position in whole], reasons, embedded)

    def _dead(self, records: Sequence[Captured]) -> int:
        """How many of these lie among the dead letters."""
        self._parked = parked(self.product.settings.kafka.bootstrap, self.spec.topic)
        return sum(record.position in self._parked for record in records)

    def rows(self) -> list[dict[str, Any]]:
        """The table as it is now."""
        return self.session.execute(self.query("SELECT * FROM {table}")).fetchall()

    def document_id(self, row: Mapping[str, Any]) -> str:
        """The document of a row: a compound key's values with commas between, those within them escaped."""
        values = [str(row[name]) for name in self.spec.key]
        if len(values) > 1:
            values = [re.sub(r"([\\,])", r"\\\1", value) for value in values]
        return f"{self.spec.name}:{','.join(values)}"

    def expected(self) -> dict[str, str]:
        """What the index should hold, as a pure function of the table: document key to text."""
        spec, found = self.spec, {}
        for row in self.rows():
            mark = None if spec.deleted is None else row[spec.deleted.column]
            equals = None if spec.deleted is None else spec.deleted.equals
            if mark is not None and (equals is None or str(mark) in equals):
                continue
            found[document_key(self.product.tenant, spec.knowledge_base, self.document_id(row))] = _text(spec, row)
        return found

    def rest(self, within_s: float = 60.0) -> None:
        """Wait until every change that was captured has ended and no stage has anything left to do."""
        whole = [position for position in self.positions if position not in self._parked]
        quiesce(self.product, self.receipts, whole, captured=[self.spec.topic], within_s=within_s)

    def verify(self, within_s: float = 60.0) -> None:
        """Come to rest, then hold a full scan against the table: nothing missing, doubled, stale or left over."""
        positions = self.positions
        assert len(positions) == self._settled, f"{len(positions) - self._settled} changes nobody announced"
        self.rest(within_s)
        found = differences(self.product.scan(self.spec.knowledge_base, self.spec.name), self.expected())
        assert not found, "\n".join(found[:20])

    def _take(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        if value is not None:
            with self._changed:
                self._records.append(Captured(f"{self.spec.topic}/{partition}@{offset}", partition, key, value))
                self._changed.notify_all()


@contextmanager
def make_source(
    product: Product, receipts: Receipts, label: str, create: str, **definition: Any
) -> Iterator[TableSource]:
    """A new table (`create` makes it) and its source, not yet applied; table, source and documents go at the end.

    definition: fields of a source's YAML besides name, knowledge_base and table.
    """
    made = new_source(product, receipts, label, **definition)
    try:
        made.execute(create)
        yield made
    finally:
        made.remove()


def new_source(product: Product, receipts: Receipts, label: str, **definition: Any) -> TableSource:
    """A source of a name of its own; nothing of it is anywhere yet."""
    name = f"{label.replace('-', '_')[:34]}_{uuid.uuid4().hex[:8]}"
    raw = {"name": name, "knowledge_base": name, "table": f"public.{name}", **definition}
    return TableSource(product, parse_source(yaml.safe_dump(raw), label), receipts)


@contextmanager
def _places(product: Product, spec: SourceSpec, dsn: str) -> Iterator[tuple[work.Places, Database]]:
    """What `thalweg sources` works with; the password goes by reference, as it does there."""
    settings = product.settings
    secrets = local_secrets(settings.home, product.origins)
    connect = Connect(settings.connect.url)
    with (
        ConfirmedProducer(settings.kafka.bootstrap, client_id="tests") as producer,
        Database(dsn) as database,
    ):
        reference = None
        if secrets is not None and database.address.password:
            reference = secrets.put(spec.name, database.address.password)
        try:
            yield (
                work.Places(
                    bootstrap=settings.kafka.bootstrap,
                    connect=connect,
                    definitions=Definitions(settings.kafka.bootstrap, product.codec),
                    producer=producer,
                    codec=product.codec,
                    topics=product.topics,
                    registry_url=settings.connect.registry_url,
                    tenant=settings.tenant,
                    password_reference=reference,
                ),
                database,
            )
        finally:
            connect.close()


def _text(spec: SourceSpec, row: Mapping[str, Any]) -> str:
    return spec.text.format_map({name: "" if value is None else value for name, value in row.items()}).strip()


def _quiet(_: str) -> None:
    """Progress is for people."""
