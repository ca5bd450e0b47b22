"""Events of source systems, from JSON lines to the topic `events`, and how far they came.

Before this: a file, one document a line. After this: the capture stage; receipts tell when each is searchable.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from connectors.document_body import DocumentRefused, parse_published, to_event
from runtime.producer import ConfirmedProducer, Delivery, Outgoing
from runtime.topic_tail import TopicTail
from schemas.codec import Codec
from schemas.lanes import Lane
from schemas.records import Event, Receipt, ReceiptStage

TOPIC = "events"
BATCH = 500
"""Records sent before their deliveries are awaited: bounds what an interrupted command leaves unsaid."""


LIVE_AT_ONCE = 200
"""Events published together above which they are a load: they take the bulk lane, and hold back nobody's edit."""


class LinesRefused(ValueError):
    """Lines of a file are wrong; nothing was published. Each text names line and field."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


@dataclass(frozen=True)
class Published:
    """An event that is durable at this position."""

    document_id: str
    position: str


def read_lines(
    lines: Iterable[str], *, tenant: str, knowledge_base: str | None, source: str, most_errors: int = 20
) -> list[Event]:
    """The events of a file, every line checked before any is used. Empty lines are skipped.

    knowledge_base stands in where a line names none. Raises LinesRefused, with the first `most_errors` lines.
    """
    events: list[Event] = []
    wrong: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            document = parse_published(json.loads(line), knowledge_base=knowledge_base)
            events.append(to_event(document, tenant=tenant, document_id=document.id, source=source))
        except json.JSONDecodeError as error:
            wrong.append(f"line {number}: not JSON at character {error.pos + 1}: {error.msg}")
        except DocumentRefused as error:
            wrong += [
                f"line {number}: {found.field or 'document'} {found.message}: {found.fix}" for found in error.errors
            ]
        if len(wrong) >= most_errors:
            break
    if wrong:
        raise LinesRefused(wrong[:most_errors])
    return events


def publish_events(producer: ConfirmedProducer, codec: Codec, events: Sequence[Event]) -> Iterator[list[Published]]:
    """Publish in order; yields what became durable, batch by batch. Raises DeliveryFailed."""
    headers = [Lane.BULK.header] if len(events) > LIVE_AT_ONCE else []
    for start in range(0, len(events), BATCH):
        batch = events[start : start + BATCH]
        records = [Outgoing(TOPIC, event.key.encode(), codec.encode(TOPIC, event), headers) for event in batch]
        deliveries: list[Delivery] = producer.send(records)
        yield [Published(event.id, delivery.position) for event, delivery in zip(batch, deliveries, strict=True)]


@dataclass
class Following:
    """What became of accepted positions, as receipts tell. Made before publishing, so that none is missed."""

    ended: dict[str, Receipt] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, receipt: Receipt) -> None:
        """A receipt was read; only the first ending of a position counts (a rebuild ends it again)."""
        if not receipt.stage.terminal:
            return
        with self._changed:
            self.ended.setdefault(receipt.accepted, receipt)
            self._changed.notify_all()

    def wait(self, positions: Sequence[str], timeout_s: float, tell: Callable[[int], None]) -> list[str]:
        """Wait until all positions ended; tell gets how many have. Returns those that have not when time is up."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._changed:
                open_ = [position for position in positions if position not in self.ended]
                tell(len(positions) - len(open_))
                left = deadline - time.monotonic()
                if not open_ or left <= 0:
                    return open_
                self._changed.wait(min(left, 1.0))

    def failures(self, positions: Iterable[str]) -> dict[str, str]:
        """The reasons of those that failed."""
        found = {position: self.ended[position] for position in positions if position in self.ended}
        return {
            position: receipt.reason or "no reason given"
            for position, receipt in found.items()
            if receipt.stage is ReceiptStage.FAILED
        }


def follow_receipts(bootstrap: str, codec: Codec, following: Following, *, since_ms: int) -> TopicTail:
    """A started tail of the topic `receipts` that feeds `following`; the caller closes it."""

    def take(partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        del partition, offset, key
        if value is not None:
            following.take(codec.decode(value, Receipt))

    tail = TopicTail(bootstrap, "receipts", take, since_ms=since_ms)
    tail.start()
    return tail
