"""Keys and knowledge bases in memory: the compacted topic `access`, followed for ever. After it: both APIs.

Before it: `access.py` (what the entries mean). While Kafka is away, everything read so far stays known.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from runtime.access import SCOPES, ApiKey, KnowledgeBase, digest
from runtime.producer import ConfirmedProducer, Outgoing
from runtime.settings import Settings, SettingsError
from runtime.topic_tail import TopicTail
from schemas.codec import Codec
from schemas.records import AccessEntry

TOPIC = "access"


class NotReadBack(Exception):
    """An entry was written, but did not come back in time; it will."""


class Directory:
    """Who may ask, and which knowledge bases there are. Thread-safe; look-ups never block.

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
        self._keys: dict[str, ApiKey] = {}
        self._digests: dict[str, str] = {}
        self._bases: dict[tuple[str, str], KnowledgeBase] = {}
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

    def find_key(self, key_digest: str, now_ms: int) -> ApiKey | None:
        """The key with this digest (`access.digest`) if it is active and not expired at now_ms."""
        found = self._own.get(key_digest) or self._keys.get(self._digests.get(key_digest, ""))
        if found is None or not found.active or (found.expires_ms is not None and found.expires_ms <= now_ms):
            return None
        return found

    def keys(self, tenant: str) -> list[ApiKey]:
        """The tenant's keys that were written, by id, revoked and expired ones included."""
        return sorted((key for key in tuple(self._keys.values()) if key.tenant == tenant), key=lambda key: key.id)

    def base(self, tenant: str, name: str) -> KnowledgeBase | None:
        """A knowledge base, None if there is none."""
        return self._bases.get((tenant, name))

    def bases(self, tenant: str) -> list[KnowledgeBase]:
        """The tenant's knowledge bases, by name."""
        return sorted((base for base in tuple(self._bases.values()) if base.tenant == tenant), key=lambda b: b.name)

    def put(self, entry: AccessEntry) -> None:
        """Write an entry and wait until this process has read it back: the next look-up sees it.

        Blocking, at most about twice the producer's timeout. Raises DeliveryFailed (nothing is known to be written),
        NotReadBack.
        """
        if self._producer is None:
            raise RuntimeError("this directory was made without a producer: it only reads")
        value = self._codec.encode(TOPIC, entry)
        (delivery,) = self._producer.send([Outgoing(TOPIC, entry.key.encode(), value)])
        if not self._tail.wait_read(delivery.partition, delivery.offset, self._timeout_s):
            raise NotReadBack(f"{entry.key} is written at {delivery.position}, but did not come back in time")

    async def put_async(self, entry: AccessEntry) -> None:
        """As put, without blocking the event loop."""
        await asyncio.to_thread(self.put, entry)

    def _take(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        del partition, offset
        if value is None:
            kind, _, name = (key or b"").decode().partition("/")
            self._forget(kind, name)
            return
        entry = self._codec.decode(value, AccessEntry)
        if entry.deleted:
            self._forget(entry.kind, entry.id)
        elif entry.kind == "key":
            # The new state first: at no moment is a key unknown that is valid before and after.
            found, before = ApiKey.from_entry(entry), self._keys.get(entry.id)
            self._keys[found.id] = found
            self._digests[found.digest] = found.id
            if before is not None and before.digest != found.digest:
                self._digests.pop(before.digest, None)
        elif entry.kind == "base":
            base = KnowledgeBase.from_entry(entry)
            self._bases[base.tenant, base.name] = base

    def _forget(self, kind: str, name: str) -> None:
        if kind == "key":
            gone = self._keys.pop(name, None)
            if gone is not None:
                self._digests.pop(gone.digest, None)
        elif kind == "base":
            tenant, _, base = name.partition("/")
            self._bases.pop((tenant, base), None)


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
