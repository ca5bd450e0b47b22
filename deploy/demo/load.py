"""Loads the corpus: rows by change capture, files by the upload API, followed until the index has each of them.

Before: `corpus`, `table`. After: `play` shows what can be done with it. What the index has already is not sent again,
so a load that was cut off goes on where it stood.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from connectors.upload_files import Uploader
from deploy.demo.client import Client
from deploy.demo.corpus import File, Row
from deploy.demo.table import BASE, Articles, apply_source, document_id
from runtime.clock import now_ms
from runtime.topic_tail import TopicTail
from schemas.codec import Codec
from schemas.records import Receipt, ReceiptStage, document_key

LOAD_S = 600.0
ROWS_AT_ONCE, ROWS_AHEAD = 6, 12
LOOK_AGAIN_S = 5.0
"""The index is asked about all that is missing this often, in case a record was not seen going by."""


class LoadFailed(Exception):
    """A document did not arrive; the text names some, and why."""


@dataclass(frozen=True)
class Progress:
    """How many documents came how far, of how many."""

    captured: int
    parsed: int
    indexed: int


@dataclass
class Journey:
    """How far each wanted document came, learnt from the topics as it happens. Thread-safe.

    wanted: digest by document id. logged: in the topic `documents`. ended: by receipt, and to be looked at. arrived:
    the index has it. stopping: the load was cut off.
    """

    tenant: str
    wanted: Mapping[str, str]
    logged: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    arrived: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def saw_change(self, key: bytes | None) -> None:
        """A record of the topic `documents`."""
        name = (key or b"").decode().removeprefix(document_key(self.tenant, BASE, ""))
        if name in self.wanted:
            with self.changed:
                self.logged.add(name)
                self.changed.notify_all()

    def saw_receipt(self, receipt: Receipt) -> None:
        """A record of the topic `receipts`."""
        if receipt.knowledge_base != BASE or receipt.tenant != self.tenant or receipt.document_id not in self.wanted:
            return
        if receipt.stage.terminal:
            with self.changed:
                if receipt.stage is ReceiptStage.FAILED:
                    self.failed[receipt.document_id] = receipt.reason or "no reason given"
                self.ended.add(receipt.document_id)
                self.changed.notify_all()

    def take_ended(self, wait_s: float) -> set[str]:
        """The documents that ended since the last call; waits for the first at most wait_s."""
        with self.changed:
            if not self.ended:
                self.changed.wait(wait_s)
            ended, self.ended = self.ended, set()
            return ended

    def saw_arrive(self, name: str) -> None:
        """The index has this document."""
        with self.changed:
            self.arrived.add(name)
            self.changed.notify_all()

    def stop(self) -> None:
        """Nothing more is to be sent."""
        with self.changed:
            self.stopping.set()
            self.changed.notify_all()

    def wait_room(self, sent: set[str], most: int, wait_s: float) -> None:
        """Wait until fewer than `most` of those sent are on their way, at most wait_s."""
        with self.changed:
            self.changed.wait_for(lambda: len(sent - self.arrived) < most or self.stopping.is_set(), wait_s)


@dataclass(frozen=True)
class Places:
    """The running stack's parts, as the demo uses them. environment: for the `thalweg` command."""

    client: Client
    articles: Articles
    source_file: Path
    tenant: str
    bootstrap: str
    upload_url: str
    key: str
    environment: dict[str, str]
    codec: Codec


def load(places: Places, rows: list[Row], files: list[File], tell: Callable[[Progress], None]) -> int:
    """Load what the index does not have yet, and wait until it has all; how many documents were missing.

    Raises LoadFailed, SourceFailed, ApiAway, ApiUnavailable, psycopg.Error.
    """
    row_ids = {document_id(row.id) for row in rows}
    wanted = {document_id(row.id): row.digest for row in rows} | {file.name: file.digest for file in files}
    journey = Journey(places.tenant, wanted)
    _look(places.client, journey, set(wanted))
    missing = len(wanted.keys() - journey.arrived)
    to_send = [file for file in files if file.name not in journey.arrived]

    def told() -> None:
        # What is indexed was captured before, whether it was seen going by or not.
        logged = journey.logged | journey.arrived
        tell(Progress(len(logged & row_ids), len(logged - row_ids), len(journey.arrived)))

    told()
    tails = _follow(places, journey)
    pool = ThreadPoolExecutor(2)
    try:
        work = [pool.submit(_capture, places, journey, rows), pool.submit(_send, places, journey, to_send)]
        _await_all(places.client, journey, work, told)
    finally:
        journey.stop()
        pool.shutdown(cancel_futures=True)
        for tail in tails:
            tail.close()
    return missing


def _await_all(client: Client, journey: Journey, work: list[Future[None]], told: Callable[[], None]) -> None:
    """Until the index has all, and all work is done. Raises LoadFailed, and what the work raises."""
    until = time.monotonic() + LOAD_S
    while missing := journey.wanted.keys() - journey.arrived:
        _look(client, journey, (journey.take_ended(LOOK_AGAIN_S) or missing) & missing)
        told()
        _raise_failed(journey)
        for task in work:
            if task.done():
                task.result()
        if time.monotonic() > until:
            raise LoadFailed(f"{len(missing)} documents are not searchable after {LOAD_S:.0f} s: {_some(missing)}")
    for task in work:
        task.result(LOAD_S)


def _follow(places: Places, journey: Journey) -> list[TopicTail]:
    def change(partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        del partition, offset, value
        journey.saw_change(key)

    def receipt(partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        del partition, offset, key
        if value is not None:
            journey.saw_receipt(places.codec.decode(value, Receipt))

    since = now_ms()
    tails = [
        TopicTail(places.bootstrap, "documents", change, since_ms=since),
        TopicTail(places.bootstrap, "receipts", receipt, since_ms=since),
    ]
    for tail in tails:
        tail.start()
    return tails


def _capture(places: Places, journey: Journey, rows: list[Row]) -> None:
    """Apply the source, then fill its table. Raises SourceFailed, psycopg.Error.

    Small transactions, a few rows ahead of the index: its batches stay small, and the progress shown moves.
    """
    places.articles.make(rows)
    apply_source(places.source_file, places.environment)
    sent: set[str] = set()
    for start in range(0, len(rows), ROWS_AT_ONCE):
        if journey.stopping.is_set():
            return
        portion = rows[start : start + ROWS_AT_ONCE]
        places.articles.put_all(portion)
        sent |= {document_id(row.id) for row in portion}
        journey.wait_room(sent, ROWS_AHEAD, LOOK_AGAIN_S * 6)


def _send(places: Places, journey: Journey, files: list[File]) -> None:
    """Upload the files, one after another. Raises ApiUnavailable, LoadFailed."""
    with (
        TemporaryDirectory(prefix="thalweg-demo-") as folder,
        httpx.Client(
            base_url=places.upload_url, headers={"X-API-Key": places.key}, timeout=60, trust_env=False
        ) as http,
    ):
        for file in files:
            if journey.stopping.is_set():
                return
            path = Path(folder) / file.name
            path.write_bytes(file.make())
            fields = {"knowledge_base": BASE, "metadata": json.dumps({"digest": file.digest, "kind": file.kind})}
            sent = Uploader(http, fields, timeout_s=60).send(path)
            if not sent.well:
                raise LoadFailed(f"{file.name}: {sent.reason}")


def _look(client: Client, journey: Journey, names: set[str]) -> None:
    """Ask the index which of these it has, in this very text."""
    for name in names:
        found = client.document(name)
        if found is not None and found["metadata"].get("digest") == journey.wanted[name]:
            journey.saw_arrive(name)


def _raise_failed(journey: Journey) -> None:
    with journey.changed:
        failed = {name: reason for name, reason in journey.failed.items() if name not in journey.arrived}
    if failed:
        raise LoadFailed("; ".join(f"{name}: {reason}" for name, reason in list(failed.items())[:5]))


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (" and others" if len(names) > 5 else "")
