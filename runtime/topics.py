"""Topics on a broker: made as the catalog says, and measured (end, committed, lag) by an admin client.

Before this: `schemas/catalog.py`. Lag never comes from a worker: a dead worker must still have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import stamina
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from schemas.catalog import Topic

_COORDINATOR_MOVES = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)


class BrokerUnavailable(Exception):
    """The broker did not answer in time."""


class Applied(StrEnum):
    """What `apply` did to a topic."""

    CREATED = "created"
    CHANGED = "changed"
    KEPT = "kept"


def _coordinator_moves(error: Exception) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() in _COORDINATOR_MOVES


@dataclass(frozen=True)
class GroupLag:
    """One partition of one group: next offset to read (None: never committed), first and end offsets of the log."""

    topic: str
    partition: int
    committed: int | None
    start: int
    end: int

    @property
    def lag(self) -> int:
        """Records between the committed offset (or the log's start) and the end, transaction markers included."""
        return max(0, self.end - max(self.committed if self.committed is not None else self.start, self.start))


class Topics:
    """Admin's view of a broker."""

    def __init__(self, bootstrap: str, *, timeout_s: float = 30.0) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "client.id": "thalweg-admin", "log_level": 0})
        self._bootstrap = bootstrap
        self._timeout_s = timeout_s

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """A question to the broker: what goes wrong with it is BrokerUnavailable."""
        try:
            yield
        except KafkaException as error:
            raise BrokerUnavailable(f"no answer from Kafka at {self._bootstrap}: {error.args[0].str()}") from error
        except TimeoutError as error:
            raise BrokerUnavailable(f"no answer from Kafka at {self._bootstrap} in {self._timeout_s:g} s") from error

    def partitions(self) -> dict[str, int]:
        """Every topic's number of partitions. Raises BrokerUnavailable."""
        with self._asked():
            metadata = self._admin.list_topics(timeout=self._timeout_s)
        return {name: len(topic.partitions) for name, topic in metadata.topics.items()}

    def apply(self, topic: Topic, *, replication: int = 1) -> Applied:
        """Make the topic, or bring its configuration and number of partitions to what the catalog says.

        Partitions are only ever added: documents keep their order, because positions and not arrival decide.
        """
        existing = self.partitions()
        if topic.name not in existing:
            new = NewTopic(topic.name, topic.partitions, replication, config=dict(topic.config))
            try:
                self._admin.create_topics([new], request_timeout=self._timeout_s)[topic.name].result(self._timeout_s)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            return Applied.CREATED
        changed = False
        if existing[topic.name] < topic.partitions:
            grown = self._admin.create_partitions([NewPartitions(topic.name, topic.partitions)])
            grown[topic.name].result(self._timeout_s)
            changed = True
        resource = ConfigResource(ResourceType.TOPIC, topic.name)
        current = self._admin.describe_configs([resource])[resource].result(self._timeout_s)
        wanted = {k: v for k, v in topic.config.items() if current[k].value != v}
        if wanted:
            entries = [
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in wanted.items()
            ]
            request = ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries)
            self._admin.incremental_alter_configs([request])[request].result(self._timeout_s)
            changed = True
        return Applied.CHANGED if changed else Applied.KEPT

    def delete(self, names: Iterable[str]) -> None:
        """Delete topics; one that is not there is no error."""
        for future in self._admin.delete_topics(list(names), request_timeout=self._timeout_s).values():
            try:
                future.result(self._timeout_s)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise

    def identity(self, name: str) -> str | None:
        """What tells a topic from another that had its name before; None if there is none. Raises BrokerUnavailable."""
        asked = TopicCollection([name])
        with self._asked():
            try:
                return str(self._admin.describe_topics(asked)[name].result(self._timeout_s).topic_id)
            except KafkaException as error:
                if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    return None
                raise

    def offsets(self, names: Iterable[str], *, earliest: bool = False) -> dict[tuple[str, int], int]:
        """The end (or start) offset of every partition of these topics; topics that do not exist are left out.

        Raises BrokerUnavailable.
        """
        existing = self.partitions()
        asked = [TopicPartition(name, p) for name in names for p in range(existing.get(name, 0))]
        if not asked:
            return {}
        spec = OffsetSpec.earliest() if earliest else OffsetSpec.latest()  # type: ignore[no-untyped-call]
        with self._asked():
            answers = self._admin.list_offsets(dict.fromkeys(asked, spec))
            return {(p.topic, p.partition): future.result(self._timeout_s).offset for p, future in answers.items()}

    def lag(self, group: str, names: Iterable[str]) -> list[GroupLag]:
        """The group's lag on every partition of these topics. Raises BrokerUnavailable."""
        names = list(names)
        ends, starts = self.offsets(names), self.offsets(names, earliest=True)
        with self._asked():
            committed = self._committed(group, ends)
        return [
            GroupLag(topic, partition, committed.get((topic, partition)), starts[topic, partition], end)
            for (topic, partition), end in sorted(ends.items())
        ]

    def _committed(self, group: str, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """What the group has committed; it is only asked, nobody joins it.

        By a consumer of its own: the admin client's calls to a group's coordinator never end again once they met a
        broker that was away, or abort the process (librdkafka 2.16, its issues 3663 and 4605).
        """
        asked = [TopicPartition(topic, partition) for topic, partition in places]
        if not asked:
            return {}
        consumer = Consumer(
            {"bootstrap.servers": self._bootstrap, "group.id": group, "enable.auto.commit": False, "log_level": 0}
        )
        try:
            answer = consumer.committed(asked, timeout=self._timeout_s)
        finally:
            consumer.close()
        for place in answer:
            if place.error is not None:
                raise KafkaException(place.error)
        return {(place.topic, place.partition): place.offset for place in answer if place.offset >= 0}

    def members(self, group: str) -> set[str]:
        """The client ids of a group's members, as its coordinator knows them now. Raises BrokerUnavailable."""
        return set(self.member_ids(group).values())

    def member_ids(self, group: str) -> dict[str, str]:
        """The client id of each member of a group. One that was started anew has another member id, and, if it keeps
        its place, the client id with which it first came. Raises BrokerUnavailable.
        """
        with self._asked():
            # Not describe_consumer_groups: see _committed.
            found = self._admin.list_groups(group, self._timeout_s)
        for described in found:
            if described.error is not None:
                raise BrokerUnavailable(f"Kafka at {self._bootstrap} cannot tell of {group}: {described.error.str()}")
        return {str(member.id): str(member.client_id) for described in found for member in described.members}

    def set_committed(self, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
        """Make a group without members go on from these offsets, by (topic, partition). Raises BrokerUnavailable.

        A group with members refuses: its members would overwrite it.
        """
        wanted = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        if not wanted:
            return
        try:
            request = ConsumerGroupTopicPartitions(group, wanted)
            self._coordinated(lambda: self._admin.alter_consumer_group_offsets([request])[group])
        except KafkaException as error:
            raise BrokerUnavailable(f"the offsets of group {group} were not taken: {error.args[0].str()}") from error

    def delete_group(self, group: str) -> bool:
        """Forget a group and its offsets; False while it has members. One that is not there is no error.

        Raises BrokerUnavailable.
        """
        try:
            self._coordinated(
                lambda: self._admin.delete_consumer_groups([group], request_timeout=self._timeout_s)[group]
            )
        except KafkaException as error:
            if error.args[0].code() == KafkaError.NON_EMPTY_GROUP:
                return False
            if error.args[0].code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise BrokerUnavailable(f"group {group} was not deleted: {error.args[0].str()}") from error
        return True

    def _coordinated(self, ask: Callable[[], Future[Any]]) -> None:
        """Ask a group's coordinator until it answers: a broker that has just begun makes it when it is asked for.

        Raises KafkaException.
        """
        for attempt in stamina.retry_context(
            on=_coordinator_moves, attempts=None, timeout=self._timeout_s, wait_initial=0.1, wait_max=1.0
        ):
            with attempt:
                ask().result(self._timeout_s)

    def count_data(self, lag: GroupLag, *, most: int = 1000) -> int:
        """How many data records a partition's lag holds: transaction markers and compacted gaps do not count.

        Reads at most `most` records; a lag above that is taken as it is.
        """
        if lag.lag == 0 or lag.lag > most:
            return lag.lag
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "thalweg-lag-probe",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.message.max.bytes": 1_048_576,
                "log_level": 0,
            }
        )
        try:
            first = max(lag.committed if lag.committed is not None else lag.start, lag.start)
            consumer.assign([TopicPartition(lag.topic, lag.partition, first)])
            found = 0
            while found < most:
                message = consumer.poll(2.0)
                if message is None or message.error() is not None:
                    break
                if (message.offset() or 0) >= lag.end:
                    break
                found += 1
            return found
        finally:
            consumer.close()
