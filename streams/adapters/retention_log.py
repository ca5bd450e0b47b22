"""The topic `documents` for a sweeper of retention: deletions in, and newer changes put back behind them.

Before this: `steps/retention.py`. After this: Kafka.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runtime.producer import DeliveryFailed, Outgoing
from runtime.topic_read import records_since
from runtime.topics import BrokerUnavailable, Topics
from schemas.codec import Codec
from schemas.lanes import Lane
from schemas.records import DocumentChange
from streams.adapters.outbox import KafkaOutbox
from streams.pipeline import index_stages
from streams.ports import TemporaryFailure

_TOPIC = "documents"


class KafkaRetentionLog:
    """RetentionLog."""

    def __init__(self, bootstrap: str, topics: Topics, outbox: KafkaOutbox, codec: Codec) -> None:
        self._bootstrap = bootstrap
        self._topics = topics
        self._outbox = outbox
        self._codec = codec

    def settled(self) -> Mapping[int, int]:
        """As RetentionLog. The end is asked for before the groups are: what comes in between is not missed."""
        try:
            ends = {partition: end for (_, partition), end in self._topics.offsets([_TOPIC]).items()}
            for stage in index_stages():
                for at in self._topics.lag(stage.group, [_TOPIC]):
                    if max(at.committed or 0, at.start) < ends.get(at.partition, 0):
                        raise TemporaryFailure(f"{stage.group} is behind: sweep again when the index is up to date")
        except BrokerUnavailable as error:
            raise TemporaryFailure(str(error)) from error
        return ends

    def append(self, deletions: Sequence[DocumentChange]) -> None:
        """As RetentionLog. A sweep is a load: it holds back nobody's edit."""
        self._outbox.changes([(change, Lane.BULK) for change in deletions])

    def put_back(self, deletions: Sequence[DocumentChange], since: Mapping[int, int]) -> int:
        """As RetentionLog."""
        ours = {change.key.encode(): change for change in deletions}
        overtaken: dict[bytes, tuple[DocumentChange, Outgoing]] = {}
        try:
            for message in records_since(self._bootstrap, _TOPIC, None, start_at=since):
                key, value = message.key(), message.value()
                if key not in ours or value is None:
                    continue
                change = self._codec.decode(value, DocumentChange)
                known = overtaken[key][0] if key in overtaken else ours[key]
                if change.position.newer_than(known.position):
                    given: Any = message.headers() or []  # its type says more than it ever is
                    overtaken[key] = (change, Outgoing(_TOPIC, key, value, given))
            self._outbox.producer.send([record for _, record in overtaken.values()])
        except (BrokerUnavailable, DeliveryFailed) as error:
            raise TemporaryFailure(str(error)) from error
        return len(overtaken)
