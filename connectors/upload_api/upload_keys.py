"""Which request an Idempotency-Key belongs to: the topic `upload-keys`, folded alike by every replica.

Before this: `idempotency.py` writes claims. After this: it reads back who won. One partition holds the steps of a key
in an order that all replicas read, so the first claim wins everywhere, and a restart forgets nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

from runtime.topic_tail import TopicTail
from schemas.codec import Codec
from schemas.records import UploadKey, UploadKeyStep

EXPIRY_MS = 86_400_000
"""How long a key belongs to its request, from its last step on (1 day)."""

LEASE_MS = 30_000
"""How long a claim holds that nothing followed: its replica died, or lost Kafka. Then the same request may go on
elsewhere. A replica begins to publish within a third of it (idempotency.py)."""

_FORGET_MS = EXPIRY_MS + 3_600_000  # an hour more than it counts, for clocks that differ


class NotReadBack(Exception):
    """A claim was written, but did not come back in time."""


class TooManyKeys(Exception):
    """A day's keys fill the memory that they may take."""


def fold(known: UploadKey | None, step: UploadKey) -> UploadKey:
    """The key's state after a step. Pure: whoever reads the same steps in the same order agrees.

    The fingerprint of the first claim stays for a day, whatever became of it. A claim takes over what was released, or
    what nothing followed for a lease; the first position that was accepted stays.
    """
    if known is None or step.at_ms - known.at_ms >= EXPIRY_MS:
        return step
    if known.step is UploadKeyStep.ACCEPTED or step.fingerprint != known.fingerprint:
        return known
    match step.step:
        case UploadKeyStep.ACCEPTED:
            return step
        case UploadKeyStep.RELEASED:
            return step if step.holder == known.holder else known
        case UploadKeyStep.CLAIMED:
            return step if may_claim(known, step.holder, step.at_ms) else known


def may_claim(known: UploadKey, holder: str, now_ms: int) -> bool:
    """True if this process may work under a key that is not accepted: it is free, its own, or its lease is over."""
    free = known.step is UploadKeyStep.RELEASED or known.holder == holder
    return free or now_ms - known.at_ms >= LEASE_MS


class UploadKeys:
    """The keys of the last day, at most `capacity` (about 500 bytes each). Thread-safe; waits are of one event loop."""

    def __init__(self, *, capacity: int = 200_000) -> None:
        self._capacity = capacity
        self._keys: dict[str, UploadKey] = {}
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def find(self, upload_id: str, now_ms: int) -> UploadKey | None:
        """The key's state, None if there is none or it expired."""
        with self._lock:
            known = self._keys.get(upload_id)
        return None if known is None or now_ms - known.at_ms >= EXPIRY_MS else known

    def take(self, step: UploadKey) -> None:
        """A step was read from the topic. Reading never refuses: what bounds the memory is that claims are refused."""
        with self._lock:
            known = self._keys.get(step.upload_id)
            state = fold(known, step)
            if state is not known:
                self._keys.pop(step.upload_id, None)  # and at the end again: the order is that of the last steps
                self._keys[step.upload_id] = state
                self._forget(step.at_ms)
            for event in self._waiters.get(step.upload_id, ()):
                if self._loop is not None and not self._loop.is_closed():
                    self._loop.call_soon_threadsafe(event.set)

    async def claim(self, claim: UploadKey, write: Callable[[], Awaitable[object]], timeout_s: float) -> UploadKey:
        """Write a claim and wait until it is read back; the key's state then says who won.

        At most one claim of a key may be under way in a process. Raises NotReadBack, TooManyKeys (nothing written), and
        what write raises.
        """
        with self._lock:
            self._forget(claim.at_ms)
            if claim.upload_id not in self._keys and len(self._keys) >= self._capacity:
                raise TooManyKeys
        await write()
        found = await self.until(claim.upload_id, claim.at_ms, lambda known: _decided(known, claim), timeout_s)
        if found is None:
            raise NotReadBack
        return found

    async def until(
        self, upload_id: str, now_ms: int, holds: Callable[[UploadKey], bool], timeout_s: float
    ) -> UploadKey | None:
        """Wait until the key's state is as wanted, and return it; None if that took too long."""
        self._loop = asyncio.get_running_loop()
        event = asyncio.Event()
        with self._lock:
            self._waiters.setdefault(upload_id, set()).add(event)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    event.clear()
                    known = self.find(upload_id, now_ms)
                    if known is not None and holds(known):
                        return known
                    await event.wait()
        except TimeoutError:
            return None
        finally:
            with self._lock:
                self._waiters[upload_id].discard(event)
                if not self._waiters[upload_id]:
                    del self._waiters[upload_id]

    def _forget(self, now_ms: int) -> None:
        """Drop what is past its time, the oldest first; the lock is held."""
        while self._keys:
            oldest = next(iter(self._keys))
            if now_ms - self._keys[oldest].at_ms < _FORGET_MS:
                return
            del self._keys[oldest]


def _decided(known: UploadKey, claim: UploadKey) -> bool:
    """True if the state is the claim's own, or one that the claim cannot change: then it was read, or came too late."""
    lost = known.step is UploadKeyStep.ACCEPTED or known.fingerprint != claim.fingerprint
    return known == claim or lost or not may_claim(known, claim.holder, claim.at_ms)


class UploadKeyTail:
    """Feeds UploadKeys from Kafka, in a thread: the whole topic, which holds two days."""

    def __init__(self, bootstrap: str, codec: Codec, keys: UploadKeys) -> None:
        self._codec = codec
        self._keys = keys
        self._tail = TopicTail(bootstrap, "upload-keys", self._take)

    def start(self) -> None:
        """Begin to read."""
        self._tail.start()

    def close(self) -> None:
        """Stop reading."""
        self._tail.close()

    @property
    def caught_up(self) -> bool:
        """True once every key that counts was read; it stays true from then on."""
        return self._tail.caught_up

    def _take(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        del partition, offset, key
        if value is not None:
            self._keys.take(self._codec.decode(value, UploadKey))
