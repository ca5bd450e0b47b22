"""What lies in the topic `dead-letters`, with whence it came. Before this: a stage parked it. After this: the judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from confluent_kafka import Consumer, TopicPartition

from tests.support.product import Product


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter; position names the record that it was."""

    position: str
    reason: str
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]


def ends(product: Product) -> dict[int, int]:
    """The topic's end now, by partition."""
    return {partition: end for (_, partition), end in product.topics.offsets(["dead-letters"]).items()}


def since(product: Product, begin: Mapping[int, int]) -> list[DeadLetter]:
    """Every dead letter after these offsets, up to now."""
    last = ends(product)
    places = [
        TopicPartition("dead-letters", partition, begin.get(partition, 0))
        for partition, end in last.items()
        if end > begin.get(partition, 0)
    ]
    if not places:
        return []
    wanted = sum(last[place.partition] - place.offset for place in places)
    consumer = Consumer(
        {
            "bootstrap.servers": product.settings.kafka.bootstrap,
            "group.id": "tests-dead-letters",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": 8_388_608,
            "log_level": 0,
        }
    )
    found: list[DeadLetter] = []
    try:
        consumer.assign(places)
        while len(found) < wanted:
            message = consumer.poll(15)
            assert message is not None, f"{len(found)} of {wanted} dead letters could be read"
            if message.error() is not None:
                continue
            given = cast("list[tuple[str, bytes]]", message.headers() or [])
            headers = {name: value for name, value in given if isinstance(value, bytes)}

            def said(name: str, headers: Mapping[str, bytes] = headers) -> str:
                return headers.get(f"__streams.errors.{name}", b"").decode()

            position = f"{said('topic')}/{said('partition')}@{said('offset')}"
            found.append(DeadLetter(position, said("exception"), message.key(), message.value(), headers))
    finally:
        consumer.close()
    return found
