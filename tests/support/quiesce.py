"""At rest: every accepted input has its terminal receipt, and no stage has anything left to do.

Before this: inputs and their positions. After this: a full scan means something.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection
from types import TracebackType

from runtime.topic_tail import TopicTail
from schemas.records import Receipt
from streams.pipeline import STAGES
from tests.support.product import Product


class Receipts:
    """The receipts written since this was made, by accepted position. Use as a context manager."""

    def __init__(self, product: Product) -> None:
        self._codec = product.codec
        self._lock = threading.Condition()
        self._terminal: dict[str, list[Receipt]] = {}
        since_ms = int(time.time() * 1000) - 1000
        self._tail = TopicTail(product.settings.kafka.bootstrap, "receipts", self._take, since_ms=since_ms)
        self._tail.start()
        assert self._tail.wait_caught_up(30), "the topic receipts could not be read"

    def __enter__(self) -> Receipts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tail.close()

    def wait(self, positions: Collection[str], within_s: float = 60.0) -> dict[str, list[Receipt]]:
        """The terminal receipts of these positions, oldest first. Fails if one has none after `within_s`."""
        assert positions, "nothing to wait for"
        with self._lock:
            self._lock.wait_for(lambda: self._terminal.keys() >= set(positions), within_s)
            missing = sorted(set(positions) - self._terminal.keys())
            assert not missing, (
                f"{len(missing)} of {len(positions)} without receipt after {within_s:g} s: {missing[:5]}"
            )
            return {position: list(self._terminal[position]) for position in positions}

    def stages(self, positions: Collection[str]) -> Counter[str]:
        """How these positions ended: the last terminal stage of each, counted."""
        return Counter(found[-1].stage.value for found in self.wait(positions, 0).values())

    def _take(self, _partition: int, _offset: int, _key: bytes | None, value: bytes | None) -> None:
        receipt = self._codec.decode(value or b"", Receipt)
        if receipt.stage.terminal:
            with self._lock:
                self._terminal.setdefault(receipt.accepted, []).append(receipt)
                self._lock.notify_all()


def queue_depths(product: Product, captured: Collection[str] = ()) -> dict[str, int]:
    """Records before each stage, by the broker. captured: topics of row changes that count."""
    return {
        stage.name: sum(
            product.topics.count_data(lag)
            for lag in product.topics.lag(stage.group, [*stage.reads, *(captured if stage.row_changes else ())])
        )
        for stage in STAGES
    }


def quiesce(
    product: Product,
    receipts: Receipts,
    positions: Collection[str],
    *,
    captured: Collection[str] = (),
    within_s: float = 60.0,
) -> None:
    """Return when each position has its terminal receipt and every stage's queue is empty. Fails after `within_s`."""
    deadline = time.monotonic() + within_s
    receipts.wait(positions, within_s)
    while any((depths := queue_depths(product, captured)).values()):
        assert time.monotonic() < deadline, f"not at rest after {within_s:g} s: {depths}"
        time.sleep(0.1)
