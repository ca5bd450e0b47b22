"""A topic from a moment to its end, for commands. Before it: a topic. After it: the audit, the dead letters."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from runtime.topics import BrokerUnavailable


def records_since(
    bootstrap: str,
    topic: str,
    since_ms: int | None,
    *,
    start_at: Mapping[int, int] | None = None,
    timeout_s: float = 30.0,
) -> Iterator[Message]:
    """Every record written at this moment or later, None: all, up to the end as it is when it is reached.

    start_at: the first offset by partition, in place of a moment; partitions that it does not name are left out.
    One partition's records come in order. No consumer group is used, and nothing committed. Raises BrokerUnavailable,
    also after timeout_s without a word.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"thalweg-read-{topic}",  # required by the client
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    try:
        places = (
            _places(consumer, topic, since_ms, timeout_s)
            if start_at is None
            else [TopicPartition(topic, number, offset) for number, offset in start_at.items()]
        )
        consumer.assign(places)
        ended: set[int] = set()
        deadline = time.monotonic() + timeout_s
        while len(ended) < len(places):
            message = consumer.poll(0.5)
            if message is None:
                if time.monotonic() > deadline:
                    raise BrokerUnavailable(f"no answer from Kafka at {bootstrap} in {timeout_s:g} s")
                continue
            error = message.error()
            if error is None:
                yield message
                deadline = time.monotonic() + timeout_s
            elif error.code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition() or 0)
    except KafkaException as error:
        raise BrokerUnavailable(f"no answer from Kafka at {bootstrap}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def _places(consumer: Consumer, topic: str, since_ms: int | None, timeout_s: float) -> list[TopicPartition]:
    described = consumer.list_topics(topic, timeout=timeout_s).topics[topic]
    if described.error is not None:
        raise BrokerUnavailable(f"no topic `{topic}`: run `thalweg topics apply`")
    if since_ms is None:
        return [TopicPartition(topic, number, OFFSET_BEGINNING) for number in described.partitions]
    asked = [TopicPartition(topic, number, since_ms) for number in described.partitions]
    return list(consumer.offsets_for_times(asked, timeout=timeout_s))
