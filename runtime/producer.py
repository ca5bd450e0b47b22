"""The one way records get into Kafka: idempotent, `acks=all`, and nothing counts before its delivery is confirmed.

Before this: whoever has something to say. After this: a topic. One producer serves a process; it is thread-safe.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas.records import Record

Headers = Sequence[tuple[str, bytes | None]]

_AT_FAULT = (
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
)
"""What the broker (or the client before it) says of a record that it will never take."""

_REFUSED = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._AUTHENTICATION,
)
"""A permission or a topic is missing: nothing gets through until a person acts, whatever the record."""


class DeliveryFailed(Exception):
    """The broker did not take a record in time, or refused it. retriable: the same record may be taken later.

    Only a record that is at fault itself is not. configuration: what is missing is a permission or a topic.
    """

    def __init__(self, text: str, *, retriable: bool, configuration: bool = False) -> None:
        super().__init__(text)
        self.retriable = retriable
        self.configuration = configuration


@dataclass(frozen=True)
class Delivery:
    """Where a record lies. timestamp_ms is the broker's append time where the topic records it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int

    @property
    def position(self) -> str:
        """`topic/partition@offset`: what callers get, and what a search may wait for."""
        return f"{self.topic}/{self.partition}@{self.offset}"


@dataclass(frozen=True)
class Outgoing:
    """A record on its way: key and value as bytes; partition None lets the key decide."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


class Sender(Protocol):
    """Kafka, as ConfirmedProducer gives it."""

    async def send_async(self, records: Iterable[Outgoing]) -> list[Delivery]:
        """Send all; returns when each is durable. Raises DeliveryFailed."""
        ...


class Encoder(Protocol):
    """The codec."""

    def encode(self, topic: str, record: Record) -> bytes:
        """The record's bytes. Raises RegistryUnavailable, NotRegistered."""
        ...


class ConfirmedProducer:
    """Sends records and waits for the broker's word. Use as a context manager, or call close()."""

    def __init__(
        self, bootstrap: str, *, client_id: str, message_max_bytes: int = 41_943_040, timeout_s: float = 30.0
    ) -> None:
        self._timeout_s = timeout_s
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "client.id": client_id,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "compression.type": "zstd",
                "message.max.bytes": message_max_bytes,
                "delivery.timeout.ms": int(timeout_s * 1000),
                "request.timeout.ms": int(min(timeout_s, 10.0) * 1000),
                # murmur2, so that Connect, Java producers and we agree on a key's partition.
                "partitioner": "murmur2_random",
                "socket.keepalive.enable": True,
                "log_level": 0,  # what matters comes back as a DeliveryFailed
            }
        )
        self._stopping = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="kafka-deliveries", daemon=True)
        self._poller.start()

    def submit(self, record: Outgoing) -> Future[Delivery]:
        """Queue a record; the future ends with its delivery or with DeliveryFailed, within the timeout."""
        future: Future[Delivery] = Future()

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                future.set_exception(failure_of(record.topic, error))
            else:
                _, timestamp = message.timestamp()
                future.set_result(Delivery(record.topic, message.partition() or 0, message.offset() or 0, timestamp))

        extra: dict[str, Any] = {} if record.partition is None else {"partition": record.partition}
        try:
            self._producer.produce(
                record.topic,
                value=record.value,
                key=record.key,
                headers=list(record.headers),
                on_delivery=delivered,
                **extra,
            )
        except BufferError:
            future.set_exception(DeliveryFailed(f"{record.topic}: the producer's queue is full", retriable=True))
        except KafkaException as error:
            future.set_exception(failure_of(record.topic, error.args[0]))
        return future

    def send(self, records: Iterable[Outgoing]) -> list[Delivery]:
        """Send all and wait for every delivery, in order. Raises the first DeliveryFailed."""
        return [future.result(self._timeout_s + 5) for future in [self.submit(record) for record in records]]

    async def send_async(self, records: Iterable[Outgoing]) -> list[Delivery]:
        """As send, without blocking the event loop."""
        futures = [asyncio.wrap_future(self.submit(record)) for record in records]
        return list(await asyncio.gather(*futures))

    def close(self) -> None:
        """Wait for what is queued (at most the timeout), then stop."""
        self._producer.flush(self._timeout_s)
        self._stopping.set()
        self._poller.join(2)

    def __enter__(self) -> ConfirmedProducer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.1)


def failure_of(topic: str, error: KafkaError) -> DeliveryFailed:
    """What the client's or the broker's error about a record means for it."""
    return DeliveryFailed(
        f"{topic}: {error.str()}",
        retriable=error.code() not in _AT_FAULT,
        configuration=error.code() in _REFUSED,
    )
