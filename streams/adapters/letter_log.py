"""The topic `dead-letters` as it is read and marked, and the way back to the topics the records came from.

Before this: `outbox.py` wrote the letters. After this: `streams/dlq/ways_back.py` lists, redrives and drops them. State
lives in the topic itself: a mark is a record without a value, in its letter's partition, so it stays as long.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from types import TracebackType

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from runtime.producer import ConfirmedProducer, Outgoing
from runtime.topic_read import records_since
from runtime.topics import BrokerUnavailable
from schemas.codec import Codec
from schemas.records import AuditEntry
from streams.core.letters import (
    TOPIC,
    Letter,
    Letters,
    Mark,
    Place,
    mark_headers,
    own_headers,
    read_letter,
    read_mark,
    redriven_headers,
)
from streams.ports import Inbound

Describe = Callable[[Letter, Inbound], Letter]
"""Adds to a letter what its record's bytes tell."""


class LetterLog:
    """One reader and writer; use it from one thread, as a context manager. All calls may raise BrokerUnavailable."""

    def __init__(self, bootstrap: str, *, timeout_s: float = 30.0) -> None:
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "thalweg-dlq",  # required by the client; nothing is ever committed
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "log_level": 0,
            }
        )

    def __enter__(self) -> LetterLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def read(self, *, since_ms: int | None = None, describe: Describe | None = None) -> list[Letter]:
        """Every letter written since then, with its state, oldest first. No value is kept."""
        found = Letters()
        for message in records_since(self._bootstrap, TOPIC, since_ms, timeout_s=self._timeout_s):
            record, (_, at_ms) = inbound(message), message.timestamp()
            mark = read_mark(at_ms, record.headers)
            if mark is not None:
                found.settle(mark)
                continue
            letter = read_letter(record.place, at_ms, record.headers, len(record.value or b""))
            if letter is not None:
                found.take(letter if describe is None else describe(letter, rejected_record(letter, record)))
        return found.all()

    def fetch(self, letters: Collection[Letter]) -> Iterator[tuple[Letter, Inbound | None]]:
        """The rejected record of each letter, in the order of the topic; None where it is no longer kept.

        Its place and timestamp are those of the record as it was rejected.
        """
        by_partition: dict[int, dict[int, Letter]] = defaultdict(dict)
        for letter in letters:
            by_partition[letter.id.partition][letter.id.offset] = letter
        for partition, wanted in sorted(by_partition.items()):
            missing = dict(sorted(wanted.items()))
            for message in self._records([TopicPartition(TOPIC, partition, next(iter(missing)))]):
                if (at := message.offset() or 0) in missing:
                    letter = missing.pop(at)
                    record = inbound(message)
                    yield letter, self._original(letter) if letter.left_out else rejected_record(letter, record)
                if not missing:
                    break
            for letter in missing.values():
                yield letter, None

    def _original(self, letter: Letter) -> Inbound | None:
        """The record where it was rejected, if it still lies there. Closes what was being read."""
        place = letter.rejected
        with LetterLog(self._bootstrap, timeout_s=self._timeout_s) as other:
            for message in other._records([TopicPartition(place.topic, place.partition, place.offset)]):
                return inbound(message) if message.offset() == place.offset else None
        return None

    def _records(self, places: list[TopicPartition]) -> Iterator[Message]:
        """All records from there on to the end, as it is when it is reached."""
        self._consumer.assign(places)
        ended: set[int] = set()
        deadline = time.monotonic() + self._timeout_s
        while len(ended) < len(places):
            message = self._consumer.poll(0.5)
            if message is None:
                if time.monotonic() > deadline:
                    raise BrokerUnavailable(f"no answer from Kafka at {self._bootstrap} in {self._timeout_s:g} s")
                continue
            error = message.error()
            if error is None:
                deadline = time.monotonic() + self._timeout_s
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition() or 0)
            elif error.code() in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART):
                return


class LetterWriter:
    """Puts records back, marks letters, writes the audit: each delivered when the call returns.

    Raises DeliveryFailed, RegistryUnavailable, NotRegistered.
    """

    def __init__(self, producer: ConfirmedProducer, codec: Codec) -> None:
        self._producer = producer
        self._codec = codec

    def send_back(self, returning: Sequence[tuple[Letter, Inbound]]) -> list[Place]:
        """Append these records to their topics again, each to the partition it lay in; where they lie now.

        Each carries where and when it was first accepted: a record's place is its document's version.
        """
        deliveries = self._producer.send(
            Outgoing(
                letter.first.topic,
                record.key,
                record.value,
                redriven_headers(record.headers, letter),
                partition=letter.first.partition,
            )
            for letter, record in returning
        )
        return [Place(found.topic, found.partition, found.offset) for found in deliveries]

    def mark(self, settled: Sequence[tuple[Letter, Mark]]) -> None:
        """Say in the topic what became of letters."""
        self._producer.send(
            Outgoing(TOPIC, str(letter.id).encode(), None, mark_headers(mark), partition=letter.id.partition)
            for letter, mark in settled
        )

    def audit(self, entries: Sequence[AuditEntry]) -> None:
        """Append to the topic `audit`."""
        self._producer.send(
            Outgoing("audit", entry.key.encode(), self._codec.encode("audit", entry)) for entry in entries
        )


def inbound(message: Message) -> Inbound:
    """A message of confluent-kafka as the steps know records."""
    _, timestamp = message.timestamp()
    return Inbound(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp_ms=timestamp,
        key=message.key(),
        value=message.value(),
        headers=tuple(_pairs(message)),
    )


def _pairs(message: Message) -> Iterator[tuple[str, bytes | None]]:
    given = message.headers() or ()
    for name, value in given.items() if isinstance(given, dict) else given:
        yield name, value.encode() if isinstance(value, str) else value


def rejected_record(letter: Letter, record: Inbound) -> Inbound:
    """The record as it was rejected, from the letter's record."""
    return Inbound(
        letter.rejected.topic,
        letter.rejected.partition,
        letter.rejected.offset,
        letter.rejected_ms,
        record.key,
        record.value,
        tuple(own_headers(record.headers)),
    )
