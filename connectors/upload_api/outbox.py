"""Records out to Kafka, its failures as problems. Before this: the routes. After this: a topic, durable."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.upload_api.ports import Encoder, Sender
from runtime.producer import Delivery, DeliveryFailed, Outgoing
from runtime.web.problems import Problem
from schemas.records import Event
from schemas.registry import NotRegistered, RegistryUnavailable

_AGAIN = {"Retry-After": "5"}


async def publish(sender: Sender, records: Sequence[Outgoing]) -> list[Delivery]:
    """Send records; returns when each is durable. Raises Problem 503 (try again) or 413."""
    try:
        return await sender.send_async(records)
    except DeliveryFailed as error:
        if error.retriable:
            raise Problem("unavailable", "Kafka did not confirm it in time: send it again.", headers=_AGAIN) from error
        raise Problem("too-large", f"Kafka refused the record: {error}") from error


def event_record(encoder: Encoder, event: Event) -> Outgoing:
    """A record for the topic `events`. Raises Problem 503 while the schema registry is away."""
    try:
        return Outgoing("events", event.key.encode(), encoder.encode("events", event))
    except (RegistryUnavailable, NotRegistered) as error:
        raise Problem("unavailable", "The schema registry does not answer: try again.", headers=_AGAIN) from error
