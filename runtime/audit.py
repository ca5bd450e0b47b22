"""Who did what, for an auditor: five kinds of action, said in the topic `audit`. After it: `thalweg audit export`.

Before it: `runtime/web/audit.py` (requests) and `runtime/acting.py` (commands). Two ways to say something: `confirm`
waits for the broker, and what cannot be said is not done; `tell` never waits, holds a bounded number of entries while
Kafka is away, and counts what it had to drop. An entry names things and never quotes a document or a question.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from enum import StrEnum
from typing import Protocol

import structlog
from prometheus_client import Counter

from runtime.producer import Delivery, DeliveryFailed, Encoder, Outgoing
from schemas.records import AuditEntry
from schemas.registry import NotRegistered, RegistryUnavailable

TOPIC = "audit"
MOST_WAITING = 10_000
"""Entries held while Kafka is away: some 40 MB at most, and minutes of requests at the limits of one tenant."""

_TOGETHER = 500
_PATIENCE_S = 60.0
_log = structlog.get_logger(__name__)


class Kind(StrEnum):
    """What an action is about."""

    AUTHENTICATION = "authentication"
    """Who is it: logins, and credentials that were refused."""
    AUTHORIZATION = "authorization"
    """Who may: users, keys, roles and knowledge bases changed, and requests beyond the caller's rights."""
    DATA_ACCESS = "data_access"
    """Documents written, removed, found, read and answered from."""
    CONFIGURATION = "configuration"
    """Sources, generations, dead letters: what runs, and on what."""
    SECURITY = "security"
    """Limits that were hit."""


class Outcome(StrEnum):
    """How an action ended. BEGUN: it was allowed and is about to be done; another entry says how it ended."""

    BEGUN = "begun"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


class AuditUnavailable(Exception):
    """An entry could not be written, so what it announces must not be done. The text may be shown to a caller."""


class Sender(Protocol):
    """Kafka, as ConfirmedProducer gives it."""

    def submit(self, record: Outgoing) -> Future[Delivery]:
        """Queue a record; the future ends within the producer's timeout, with a Delivery or DeliveryFailed."""
        ...


class AuditLog:
    """Writes the topic. One for a process; thread-safe. counted: `audit_entries_total{kind, outcome}`."""

    def __init__(self, sender: Sender, encoder: Encoder, counted: Counter, *, room: int = MOST_WAITING) -> None:
        self._sender = sender
        self._encoder = encoder
        self._counted = counted
        self._room = room
        self._changed = threading.Condition()
        self._waiting: deque[AuditEntry] = deque()
        self._at_hand = 0
        self._closing_at: float | None = None
        self._full = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Begin to write what is told."""
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Write what was told, for so long at most, then stop. What remains is counted as dropped."""
        with self._changed:
            self._closing_at = time.monotonic() + timeout_s
            self._changed.notify_all()
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s + 1)
        with self._changed:
            left, self._waiting = list(self._waiting), deque()
        self._drop(left, "closing")

    def tell(self, entry: AuditEntry) -> None:
        """Have an entry written. Returns at once and raises nothing; without room it is dropped, and counted."""
        with self._changed:
            if len(self._waiting) + self._at_hand < self._room:
                self._waiting.append(entry)
                self._full = False
                self._changed.notify_all()
                return
            first, self._full = not self._full, True
        self._drop([entry], "full", say=first)

    def confirm(self, entry: AuditEntry) -> None:
        """Write an entry; returns once it is durable. Raises AuditUnavailable, within the producer's timeout."""
        try:
            self._sender.submit(self._outgoing(entry)).result(_PATIENCE_S)
        except (DeliveryFailed, RegistryUnavailable, NotRegistered, TimeoutError) as error:
            raise AuditUnavailable(f"the audit cannot be written, so nothing was done: {error}") from error
        self._counted.labels(kind=entry.kind, outcome="written").inc()

    async def confirm_async(self, entry: AuditEntry) -> None:
        """As confirm, without blocking the event loop."""
        await asyncio.to_thread(self.confirm, entry)

    def _outgoing(self, entry: AuditEntry) -> Outgoing:
        return Outgoing(TOPIC, entry.key.encode(), self._encoder.encode(TOPIC, entry))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing_at is not None)
                if not self._waiting:
                    return
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER))]
                self._at_hand = len(batch)
            again = self._write(batch)
            with self._changed:
                self._waiting.extendleft(reversed(again))
                self._at_hand = 0
                closing_at = self._closing_at
            if not again:
                continue
            if closing_at is None:
                self._stopping.wait(random.uniform(0.5, 2.0))  # noqa: S311  # jitter is no secret
            elif time.monotonic() < closing_at:
                time.sleep(0.1)
            else:
                return

    def _write(self, batch: Sequence[AuditEntry]) -> list[AuditEntry]:
        """Write these; returns what may be taken later, in order."""
        try:
            ready = [self._outgoing(entry) for entry in batch]
        except (RegistryUnavailable, NotRegistered):
            return list(batch)
        futures = [(entry, self._sender.submit(record)) for entry, record in zip(batch, ready, strict=True)]
        again: list[AuditEntry] = []
        for entry, future in futures:
            try:
                future.result(_PATIENCE_S)
            except DeliveryFailed as error:
                if error.retriable:
                    again.append(entry)
                else:
                    self._drop([entry], str(error))
            except TimeoutError:
                again.append(entry)
            else:
                self._counted.labels(kind=entry.kind, outcome="written").inc()
        return again

    def _drop(self, entries: Sequence[AuditEntry], reason: str, *, say: bool = True) -> None:
        for entry in entries:
            self._counted.labels(kind=entry.kind, outcome="dropped").inc()
        if entries and say:
            _log.error("audit_entries_dropped", entries=len(entries), reason=reason)
