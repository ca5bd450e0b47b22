"""A topic as it lies in Kafka, every byte of it: read whole, put back, and which of its records were parked.

Before this: a running broker. After this: `source.py`, and scenarios that send recorded records once more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition

from runtime.producer import ConfirmedProducer, Outgoing

READ_S = 30.0


@dataclass(frozen=True)
class RawRecord:
    """One record, byte for byte."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    timestamp_ms: int

    def header(self, name: str) -> str:
        """A header as text, empty where there is none."""
        return next((text.decode() for found, text in self.headers if found == name), "")


def read_topic(bootstrap: str, topic: str) -> list[RawRecord]:
    """Every record that is in the topic now, by partition and offset. Fails if that takes longer than `READ_S`."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "tests-raw",  # required by the client; nothing is ever committed
            "enable.auto.commit": False,
            "allow.auto.create.topics": False,
        },
        logger=None,
    )
    found: list[RawRecord] = []
    deadline = time.monotonic() + READ_S
    try:
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            start, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            consumer.assign([TopicPartition(topic, partition, start)])
            while consumer.position([TopicPartition(topic, partition)])[0].offset < end and start < end:
                assert time.monotonic() < deadline, f"{topic} is not read after {READ_S:g} s"
                message = consumer.poll(0.2)
                if message is not None and message.error() is None:
                    headers = tuple((name, text or b"") for name, text in message.headers() or [])
                    offset = message.offset() or 0
                    at_ms = message.timestamp()[1]
                    found.append(RawRecord(partition, offset, message.key(), message.value(), headers, at_ms))
    finally:
        consumer.close()
    return found


def send_records(bootstrap: str, topic: str, records: Iterable[RawRecord]) -> None:
    """Put records into a topic again, in this order, each into the partition it was in."""
    with ConfirmedProducer(bootstrap, client_id="tests-raw") as producer:
        producer.send(Outgoing(topic, r.key, r.value, r.headers, partition=r.partition) for r in records)


def parked(bootstrap: str, topic: str) -> dict[str, str]:
    """The records of a topic that lie among the dead letters: position (`topic/partition@offset`) to reason."""
    found = {}
    for record in read_topic(bootstrap, "dead-letters"):
        if record.header("__streams.errors.topic") == topic:
            where = f"{record.header('__streams.errors.partition')}@{record.header('__streams.errors.offset')}"
            found[f"{topic}/{where}"] = record.header("__streams.errors.exception")
    return found
