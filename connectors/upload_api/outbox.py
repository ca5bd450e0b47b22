"""Records out to Kafka, its failures as problems. Before this: the routes. After this: a topic, durable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from connectors.upload_api.ports import Parts
from runtime.producer import Delivery, DeliveryFailed, Outgoing
from runtime.web import audit
from runtime.web.problems import Problem
from schemas.lanes import Lane
from schemas.records import Event, Upload, UploadKey
from schemas.registry import NotRegistered, RegistryUnavailable

_AGAIN = {"Retry-After": "5"}

_LIVE_AT_ONCE = 100
"""Records of one request above which they are a load: they take the bulk lane, and hold back nobody's edit."""


async def publish(parts: Parts, topic: str, records: Sequence[Event | Upload | UploadKey]) -> list[Delivery]:
    """Send records; returns when each is durable, in order. Raises Problem 503 (try again) or 413."""

    audit.note(documents=[record.key.partition("/")[2] for record in records])
    headers = [Lane.BULK.header] if len(records) > _LIVE_AT_ONCE else []

    def encode() -> list[Outgoing]:
        return [
            Outgoing(topic, record.key.encode(), parts.encoder.encode(topic, record), headers) for record in records
        ]

    try:
        # In a thread: the registry may have to be asked first, and a text may have 32 MiB.
        return await parts.sender.send_async(await asyncio.to_thread(encode))
    except (RegistryUnavailable, NotRegistered) as error:
        raise Problem("unavailable", "The schema registry does not answer: try again.", headers=_AGAIN) from error
    except DeliveryFailed as error:
        if error.retriable:
            raise Problem("unavailable", "Kafka did not confirm it in time: send it again.", headers=_AGAIN) from error
        raise Problem("too-large", f"Kafka refused the record: {error}") from error
