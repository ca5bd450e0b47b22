"""Follows a topic for ever in a thread, with no consumer group: how memory keeps up with Kafka.

Before it: a topic. After it: a handler that keeps what it needs (`directory.py`, the query API's freshness). Kafka
may go away and come back at any time: what was read stays, and reading goes on where it stood.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Mapping

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from runtime.tracebacks import named
from schemas.registry import RegistryUnavailable

_log = structlog.get_logger(__name__)
_POLL_S = 0.2


class TopicTail:
    """Reads every partition of a topic from the beginning, or from a moment on, and hands each record over.

    start_at: the first offset to read, by partition, for one that remembers how far it came; where Kafka does not hold
    that offset any more, reading begins at the partition's start.

    on_record(partition, offset, key, value) runs in the tail's thread, in each partition's order. A record that it
    cannot read because the registry is away is handed over again until it can; whatever else it raises is logged, and
    the record counts as read. Thread-safe otherwise.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        on_record: Callable[[int, int, bytes | None, bytes | None], None],
        *,
        since_ms: int | None = None,
        start_at: Mapping[int, int] | None = None,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._on_record = on_record
        self._since_ms = since_ms
        self._start_at = dict(start_at or {})
        self._changed = threading.Condition()
        self._next: dict[int, int] = {}
        self._at_end: set[int] = set()
        self._partitions: frozenset[int] = frozenset()
        self._connected = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tail-{topic}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait for the thread (at most 5 s)."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)

    @property
    def caught_up(self) -> bool:
        """True once the end of every partition was seen; it stays true from then on."""
        with self._changed:
            return bool(self._partitions) and self._at_end >= self._partitions

    @property
    def connected(self) -> bool:
        """True if a broker was reachable within about the last two seconds."""
        return self._connected

    def wait_caught_up(self, timeout_s: float) -> bool:
        """Wait until caught up; False if that took too long."""
        with self._changed:
            return self._changed.wait_for(
                lambda: bool(self._partitions) and self._at_end >= self._partitions, timeout_s
            )

    def wait_read(self, partition: int, offset: int, timeout_s: float) -> bool:
        """Wait until all up to this offset was handed over; False if that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: self._next.get(partition, 0) > offset, timeout_s)

    def _run(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": f"thalweg-tail-{self._topic}",  # required by the client; nothing is ever committed
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 100,
                "reconnect.backoff.max.ms": 2000,
                "statistics.interval.ms": 1000,
                "stats_cb": self._saw_statistics,
                "log_level": 0,  # its own lines are no JSON and repeat; what matters is logged below
            },
            logger=None,
        )
        try:
            self._assign(consumer)
            while not self._stopping.is_set():
                message = consumer.poll(_POLL_S)
                if message is not None:
                    self._take(message)
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer) -> None:
        """Find the partitions, trying for as long as it takes: the topic may be made after this process."""
        said = False
        while not self._stopping.is_set():
            try:
                consumer.poll(0)
                found = consumer.list_topics(self._topic, timeout=2.0).topics[self._topic]
                if found.error is None and found.partitions:
                    assigned = [
                        TopicPartition(self._topic, p, self._start_at.get(p, OFFSET_BEGINNING))
                        for p in found.partitions
                    ]
                    if self._since_ms is not None:
                        asked = [TopicPartition(self._topic, p, self._since_ms) for p in found.partitions]
                        assigned = consumer.offsets_for_times(asked, timeout=5.0)
                    consumer.assign(assigned)
                    with self._changed:
                        self._partitions = frozenset(found.partitions)
                        self._connected = True
                    return
                reason = "the topic does not exist" if found.error is None else str(found.error.str())
            except KafkaException as error:
                reason = error.args[0].str()
            said = self._wait(reason, said=said)

    def _take(self, message: Message) -> None:
        error, partition, offset = message.error(), message.partition() or 0, message.offset() or 0
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                with self._changed:
                    self._at_end.add(partition)
                    # Where compaction or a control record left nothing to hand over, the end itself was reached.
                    self._next[partition] = max(self._next.get(partition, 0), offset)
                    self._changed.notify_all()
            else:
                _log.warning("tail_read_failed", topic=self._topic, reason=error.str())
            return
        if not self._hand_over(partition, offset, message.key(), message.value()):
            return
        with self._changed:
            self._next[partition] = offset + 1
            self._changed.notify_all()

    def _hand_over(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> bool:
        """False if the tail was told to stop before the record could be read."""
        said = False
        while not self._stopping.is_set():
            try:
                self._on_record(partition, offset, key, value)
            except RegistryUnavailable as away:
                # To go on without it would be to forget it: a knowledge base, a source, a key that was revoked.
                said = self._wait(str(away), said=said)
            except Exception as failed:  # noqa: BLE001  # one odd record must not end the tail
                _log.error(
                    "tail_record_skipped",
                    topic=self._topic,
                    partition=partition,
                    offset=offset,
                    error=named(failed),
                )
                return True
            else:
                return True
        return False

    def _wait(self, reason: str, *, said: bool) -> bool:
        """A moment until the next try; the reason is logged unless it was said before. Returns True: now it was."""
        if not said:
            _log.warning("tail_waits", topic=self._topic, bootstrap=self._bootstrap, reason=reason)
        self._stopping.wait(random.uniform(0.2, 1.0))  # noqa: S311  # jitter is no secret
        return True

    def _saw_statistics(self, text: str) -> None:
        brokers = json.loads(text).get("brokers", {}).values()
        connected = any(broker.get("state") == "UP" for broker in brokers)
        if connected != self._connected:
            _log.warning("kafka_back" if connected else "kafka_away", topic=self._topic, bootstrap=self._bootstrap)
            self._connected = connected
