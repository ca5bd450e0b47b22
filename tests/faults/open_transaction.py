"""A producer that aborts one transaction and leaves another one open, to be killed in it.

Before this: `faults_of_inputs.aborted_transactions` starts it (`python -m tests.faults.open_transaction BOOTSTRAP
TOPIC`). After this: it prints `open` once both hold records of the topic's own, and waits to be killed.
"""

from __future__ import annotations

import sys
import time
import uuid

from confluent_kafka import Consumer, Message, Producer, TopicPartition

_EACH = 10


def last_records(bootstrap: str, topic: str) -> list[Message]:
    """The last few records of each partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "tests-transactions", "log_level": 0})
    found: list[Message] = []
    try:
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            begin = max(low, high - _EACH)
            consumer.assign([TopicPartition(topic, partition, begin)])
            for _ in range(high - begin):
                message = consumer.poll(5)
                if message is not None and message.error() is None:
                    found.append(message)
    finally:
        consumer.close()
    return found


def main(bootstrap: str, topic: str) -> None:
    """Abort one, leave one open."""
    again = last_records(bootstrap, topic)
    assert again, "the topic is empty"
    for aborted in (True, False):
        producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "transactional.id": f"tests-{uuid.uuid4()}",
                "transaction.timeout.ms": 10_000,
                "log_level": 0,
            }
        )
        producer.init_transactions(20)
        producer.begin_transaction()
        for message in again:
            producer.produce(
                topic,
                key=message.key(),
                value=message.value(),
                headers=message.headers() or [],
                partition=message.partition() or 0,
            )
        assert producer.flush(20) == 0
        if aborted:
            producer.abort_transaction(20)
    print("open", flush=True)
    time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
