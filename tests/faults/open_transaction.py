"""A producer that aborts one transaction and leaves another one open, to be killed in it.

Before this: `faults_of_inputs.aborted_transactions` starts it (`python -m tests.faults.open_transaction BOOTSTRAP
TOPIC`). After this: it prints `open` once both hold records of the topic's own, and waits to be killed.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections import defaultdict

from confluent_kafka import Producer

from tests.support.raw_records import RawRecord, read_topic

_EACH = 10


def last_records(bootstrap: str, topic: str) -> list[RawRecord]:
    """The last few records of each partition."""
    found: dict[int, list[RawRecord]] = defaultdict(list)
    for record in read_topic(bootstrap, topic):
        found[record.partition].append(record)
    return [record for partition in found.values() for record in partition[-_EACH:]]


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
        for record in again:
            producer.produce(
                topic, key=record.key, value=record.value, headers=list(record.headers), partition=record.partition
            )
        assert producer.flush(20) == 0
        if aborted:
            producer.abort_transaction(20)
    print("open", flush=True)
    time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
