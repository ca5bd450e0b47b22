"""The compacted topic `access` in memory, followed for ever. After it: both APIs, `access_changes.py`.

Before it: `access_state.py` (what the entries amount to). While Kafka is away, everything read so far stays known.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from runtime.access import SCOPES, ApiKey, KnowledgeBase, digest
from runtime.access_state import AccessState
from runtime.producer import ConfirmedProducer, Outgoing
from runtime.settings import Settings, SettingsError
from runtime.topic_tail import TopicTail
from schemas.codec import Codec
from schemas.records import AccessEntry

TOPIC = "access"


class NotReadBack(Exception):
    """An entry was written, but did not come back in time; it will."""


class Directory:
    """Who may ask, and which knowledge bases there are: `state` knows. Thread-safe; look-ups never block.

    own_keys are known without Kafka (the local stack's administrator). producer is needed for `put` only.
    """

    def __init__(
        self,
        bootstrap: str,
        codec: Codec,
        *,
        producer: ConfirmedProducer | None = None,
        own_keys: tuple[ApiKey, ...] = (),
        timeout_s: float = 10.0,
    ) -> None:
        self._codec = codec
        self._producer = producer
        self._timeout_s = timeout_s
        self._own = {key.digest: key for key in own_keys}
        self.state = AccessState()
        self._tail = TopicTail(bootstrap, TOPIC, self._take)

    def start(self) -> None:
        """Begin to read."""
        self._tail.start()

    def close(self) -> None:
        """Stop reading."""
        self._tail.close()

    @property
    def ready(self) -> bool:
        """True once the whole topic was read; it stays true from then on."""
        return self._tail.caught_up

    @property
    def connected(self) -> bool:
        """True while Kafka is reachable."""
        return self._tail.connected

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until ready; False if that took too long."""
        return self._tail.wait_caught_up(timeout_s)

    def wait_read(self, partition: int, offset: int, timeout_s: float) -> bool:
        """Wait until the topic was read up to this offset; False if that took too long."""
        return self._tail.wait_read(partition, offset, timeout_s)

    def find_key(self, key_digest: str, now_ms: int) -> ApiKey | None:
        """The key with this digest (`access.digest`) as it counts at now_ms, bounded by the user it acts for.

        Until the whole topic was read only own keys are known: that another one was revoked may be still to come.
        """
        found = self._own.get(key_digest)
        if found is None and self.ready:
            found = self.state.key_by_digest(key_digest)
        return found if found is not None and found.alive(now_ms) else None

    def keys(self, tenant: str) -> list[ApiKey]:
        """The tenant's keys that were written, by id, revoked and expired ones included."""
        return self.state.keys(tenant)

    def base(self, tenant: str, name: str) -> KnowledgeBase | None:
        """A knowledge base, None if there is none."""
        return self.state.base(tenant, name)

    def bases(self, tenant: str) -> list[KnowledgeBase]:
        """The tenant's knowledge bases, by name."""
        return self.state.bases(tenant)

    def put(self, *entries: AccessEntry) -> None:
        """Write entries and wait until this process has read them back: the next look-up sees them.

        Blocking, at most about twice the producer's timeout. Raises DeliveryFailed (not all are known to be written),
        NotReadBack; RegistryUnavailable, NotRegistered (nothing is written).
        """
        if self._producer is None:
            raise RuntimeError("this directory was made without a producer: it only reads")
        outgoing = [Outgoing(TOPIC, entry.key.encode(), self._codec.encode(TOPIC, entry)) for entry in entries]
        deadline = time.monotonic() + self._timeout_s
        for delivery in self._producer.send(outgoing):
            left = max(0.0, deadline - time.monotonic())
            if not self._tail.wait_read(delivery.partition, delivery.offset, left):
                raise NotReadBack(f"what was written at {delivery.position} did not come back in time")

    async def put_async(self, *entries: AccessEntry) -> None:
        """As put, without blocking the event loop."""
        await asyncio.to_thread(self.put, *entries)

    def _take(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        del partition, offset
        if value is None:
            kind, _, name = (key or b"").decode().partition("/")
            self.state.forget(kind, name)
        else:
            self.state.take(self._codec.decode(value, AccessEntry))


def demo_keys(settings: Settings) -> tuple[ApiKey, ...]:
    """The local stack's administrator, where there is one: all scopes in settings.tenant. Raises SettingsError."""
    file = settings.access.demo_key_file
    if file is None:
        return ()
    return (
        ApiKey(
            id="demo",
            digest=digest(read_demo_key(file)),
            subject="demo",
            tenant=settings.tenant,
            scopes=SCOPES,
            roles={"*": "admin"},
        ),
    )


def read_demo_key(file: Path) -> str:
    """The key in the local stack's key file. Raises SettingsError if there is none to read."""
    try:
        key = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"access.demo_key_file: cannot read {file}: {error.strerror}") from error
    if not key:
        raise SettingsError(f"access.demo_key_file: {file} is empty")
    return key
