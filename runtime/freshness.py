"""Read your writes: follows the topic `receipts` from a while back, and lets callers wait for a position.

Before it: the topic, written by the stages; `passed.py`, for older positions. After it: `min_position` of the query
API, `?wait=searchable` of the upload API. While Kafka is away nobody's wait ends early.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

from runtime.passed import Passed
from runtime.progress import Accepted, Progress
from runtime.topic_tail import TopicTail
from runtime.topics import Topics
from schemas.codec import Codec
from schemas.records import Receipt

TOPIC = "receipts"
_BACK_MS = 3_600_000
_ASK_S = 5.0
_ASK_AGAIN_S = 2.0


class Freshness:
    """How far the index has come. `start` it before use; `wait` belongs to the event loop, the rest to any thread.

    Receipts are read from back_ms before now on. also is called with each of them, in the reader's thread.
    """

    def __init__(
        self,
        bootstrap: str,
        codec: Codec,
        now_ms: Callable[[], int],
        *,
        back_ms: int = _BACK_MS,
        also: Callable[[Receipt], None] = lambda _: None,
    ) -> None:
        self.progress = Progress()
        self._also = also
        self._codec = codec
        self._lock = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._tail = TopicTail(bootstrap, TOPIC, self._take, since_ms=now_ms() - back_ms)
        self._passed = Passed(Topics(bootstrap, timeout_s=_ASK_S), self.progress, self._tell)

    def start(self) -> None:
        """Begin to read."""
        self._tail.start()
        self._passed.start()

    def close(self) -> None:
        """Stop reading."""
        self._passed.close()
        self._tail.close()

    @property
    def caught_up(self) -> bool:
        """True once the topic was read to its end."""
        return self._tail.caught_up

    @property
    def connected(self) -> bool:
        """True if receipts come in: Kafka is reachable, and the topic was read to its end once."""
        return self._tail.connected and self._tail.caught_up

    async def wait(self, positions: Sequence[Accepted], timeout_s: float) -> list[Accepted]:
        """Wait until all of these have ended, at most timeout_s; those that have not are given back."""
        deadline = time.monotonic() + timeout_s
        came = asyncio.Event()
        me = (asyncio.get_running_loop(), came)
        missing = list(positions)
        with self._lock:
            self._waiting.add(me)
        try:
            while True:
                came.clear()
                missing = [position for position in missing if not self.progress.ended(position)]
                left = deadline - time.monotonic()
                if missing:
                    self._passed.want(missing)
                if not missing or left <= 0:
                    return missing
                try:
                    async with asyncio.timeout(min(left, _ASK_AGAIN_S)):
                        await came.wait()
                except TimeoutError:
                    continue  # one last look, in case the last moment brought it
        finally:
            with self._lock:
                self._waiting.discard(me)

    def _take(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        del partition, offset, key
        if value is None:
            return
        receipt = self._codec.decode(value, Receipt)
        self._also(receipt)
        self.progress.take(receipt)
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            for loop, came in self._waiting:
                loop.call_soon_threadsafe(came.set)
