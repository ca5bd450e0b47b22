"""What stages tell the rest, through the confirmed producer: changes, receipts, vectors, dead letters.

Before this: the steps. After this: topics. An error of the broker is a TemporaryFailure: the batch waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace

from runtime.producer import ConfirmedProducer, DeliveryFailed, Outgoing
from schemas.codec import Codec
from schemas.lanes import Lane
from schemas.records import DocumentChange, Embedding, Receipt
from schemas.registry import RegistryUnavailable
from streams.core.outcomes import Rejected
from streams.ports import Inbound, PermanentFailure, TemporaryFailure


class KafkaOutbox:
    """Outbox, ChangeLog and dead letters of one worker. Thread-safe."""

    def __init__(self, producer: ConfirmedProducer, codec: Codec, *, stage: str) -> None:
        self.producer = producer
        self._codec = codec
        self._stage = stage

    def publish(self, receipts: Sequence[Receipt], embeddings: Sequence[Embedding]) -> None:
        """As Outbox.publish."""
        self._send(
            [self._record("embeddings", item) for item in embeddings]
            + [self._record("receipts", item) for item in receipts]
        )

    def progress(self, receipts: Sequence[Receipt]) -> None:
        """As Outbox.progress."""
        for receipt in receipts:
            self.producer.submit(self._record("receipts", receipt))

    def changes(self, changes: Sequence[tuple[DocumentChange, Lane]]) -> None:
        """As ChangeLog.changes."""
        self._send([replace(self._record("documents", change), headers=[lane.header]) for change, lane in changes])

    def receipts(self, receipts: Sequence[Receipt]) -> None:
        """As ChangeLog.receipts."""
        self.publish(receipts, [])

    def park(self, record: Inbound, outcome: Rejected) -> None:
        """Put a record into `dead-letters`: key, value and headers byte for byte, and why in headers (KIP-1034)."""
        why = {
            "__streams.errors.exception": outcome.reason,
            "__streams.errors.message": outcome.detail[:1000],
            "__streams.errors.topic": record.topic,
            "__streams.errors.partition": str(record.partition),
            "__streams.errors.offset": str(record.offset),
            "thalweg.stage": self._stage,
        }
        headers = [*record.headers, *((name, text.encode()) for name, text in why.items())]
        self._send([Outgoing("dead-letters", record.key, record.value, headers)])

    def _record(self, topic: str, item: DocumentChange | Receipt | Embedding) -> Outgoing:
        try:
            return Outgoing(topic, item.key.encode(), self._codec.encode(topic, item))
        except RegistryUnavailable as error:
            raise TemporaryFailure(str(error)) from error

    def _send(self, records: Sequence[Outgoing]) -> None:
        try:
            self.producer.send(records)
        except DeliveryFailed as error:
            if error.retriable:
                raise TemporaryFailure(f"Kafka: {error}") from error
            raise PermanentFailure("not_deliverable", str(error)) from error
        except FutureTimeout as error:
            raise TemporaryFailure("Kafka: no word on a delivery in time") from error


class QuietOutbox(KafkaOutbox):
    """The outbox of a generation that is not live: vectors are published, receipts and dead letters are not.

    A receipt says that the live generation has a change, and a dead letter that nobody has; both are for the main
    group to say. computed takes the vectors too, so that the live generation's step finds them at once.
    """

    def __init__(
        self,
        producer: ConfirmedProducer,
        codec: Codec,
        *,
        stage: str,
        computed: Callable[[Sequence[Embedding]], None],
    ) -> None:
        super().__init__(producer, codec, stage=stage)
        self._computed = computed

    def publish(self, receipts: Sequence[Receipt], embeddings: Sequence[Embedding]) -> None:  # noqa: ARG002
        """As Outbox.publish, without the receipts."""
        self._computed(embeddings)
        super().publish([], embeddings)

    def progress(self, receipts: Sequence[Receipt]) -> None:
        """Nothing: nobody watches."""

    def park(self, record: Inbound, outcome: Rejected) -> None:
        """A line in the log; the loop writes it."""
