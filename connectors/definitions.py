"""The applied sources, kept in the compacted topic `sources`; and the barriers that end a source's old documents.

Before this: `apply.py` writes. After this: the capture stage reads the definitions, the index stage the barriers.
"""

from __future__ import annotations

import time

import stamina
from confluent_kafka import Consumer, KafkaException, TopicPartition

from runtime.producer import ConfirmedProducer, Delivery, Outgoing
from runtime.topics import BrokerUnavailable, Topics
from schemas.codec import Codec
from schemas.records import DocumentChange, Operation, Origin, Position, SourceDefinition, document_key

TOPIC = "sources"
DOCUMENTS = "documents"


class Definitions:
    """The topic `sources`, read whole for each question: it holds a record or two a source."""

    def __init__(self, bootstrap: str, codec: Codec, *, timeout_s: float = 30.0) -> None:
        self._bootstrap = bootstrap
        self._codec = codec
        self._timeout_s = timeout_s

    def read(self) -> dict[str, SourceDefinition]:
        """The newest definition of each source, by `tenant/name`; removed ones are among them.

        Raises BrokerUnavailable after a few tries, also if the topic is not there: `thalweg topics apply` makes it.
        """
        for attempt in stamina.retry_context(on=BrokerUnavailable, attempts=4, timeout=self._timeout_s, wait_max=2.0):
            with attempt:
                return self._read()
        raise AssertionError("unreachable: the retry context raises its last error")

    def _read(self) -> dict[str, SourceDefinition]:
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "thalweg-sources-reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            },
            logger=None,
        )
        found: dict[str, SourceDefinition] = {}
        deadline = time.monotonic() + self._timeout_s
        try:
            partition = TopicPartition(TOPIC, 0, 0)
            start, end = consumer.get_watermark_offsets(partition, timeout=self._timeout_s)
            consumer.assign([TopicPartition(TOPIC, 0, start)])
            while start < end and self._position(consumer) < end:
                if time.monotonic() > deadline:
                    raise BrokerUnavailable(f"the topic {TOPIC} could not be read within {self._timeout_s:g} s")
                message = consumer.poll(0.2)
                if message is None or message.error() is not None:
                    continue
                value = message.value()
                if value is not None:
                    definition = self._codec.decode(value, SourceDefinition)
                    found[definition.key] = definition
        except KafkaException as error:
            raise BrokerUnavailable(
                f"no answer about the topic {TOPIC} from Kafka at {self._bootstrap}: {error.args[0].str()}; "
                "`thalweg topics apply` makes topics"
            ) from error
        finally:
            consumer.close()
        return found

    @staticmethod
    def _position(consumer: Consumer) -> int:
        (position,) = consumer.position([TopicPartition(TOPIC, 0)])
        return int(position.offset)


def write_definition(producer: ConfirmedProducer, codec: Codec, definition: SourceDefinition) -> Delivery:
    """Store a definition; returns when it is durable. Raises DeliveryFailed."""
    record = Outgoing(TOPIC, definition.key.encode(), codec.encode(TOPIC, definition))
    return producer.send([record])[0]


def send_barriers(
    producer: ConfirmedProducer,
    codec: Codec,
    topics: Topics,
    *,
    definition: SourceDefinition,
    knowledge_base: str,
    stream: str,
    epoch: int,
    reason: str,
    cause: Delivery,
    now_ms: int,
) -> int:
    """End every document of the source from before this epoch: one BARRIER into each partition of `documents`.

    Returns the number of partitions; all are durable. The same barrier twice changes nothing. cause is the record
    that made it necessary. Raises DeliveryFailed.
    """
    partitions = topics.partitions()[DOCUMENTS]
    change = DocumentChange(
        tenant=definition.tenant,
        knowledge_base=knowledge_base,
        document_id=f"source:{definition.name}",
        operation=Operation.BARRIER,
        position=Position(stream, epoch, 0, 0, now_ms),
        origin=Origin("cdc", definition.name, reason, cause.topic, cause.partition, cause.offset),
        captured_ms=now_ms,
    )
    key = document_key(change.tenant, change.knowledge_base, change.document_id).encode()
    value = codec.encode(DOCUMENTS, change)
    producer.send(Outgoing(DOCUMENTS, key, value, partition=number) for number in range(partitions))
    return partitions
