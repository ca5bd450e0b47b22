"""Queue depth of every stage, from the broker: alive, and right, when all workers are dead.

Before this: `pipeline.py` and the topic `sources`. After this: Prometheus, the autoscaler, `thalweg status`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import structlog
from confluent_kafka import KafkaException

from runtime.metrics import Metrics
from runtime.topics import BrokerUnavailable, GroupLag, Topics
from streams.pipeline import STAGES, Stage

log = structlog.get_logger()


class LagExporter:
    """Measures at an interval; what it cannot measure it leaves as it was and says so (unknown is not zero)."""

    def __init__(
        self, topics: Topics, metrics: Metrics, captured: Callable[[], Sequence[str]], *, interval_s: float
    ) -> None:
        self._topics = topics
        self._metrics = metrics
        self._captured = captured
        self._interval_s = interval_s
        self._waiting: dict[tuple[str, str, int], tuple[int, float]] = {}
        self._measured_at: float | None = None
        self._stopping = threading.Event()

    def ready(self) -> str | None:
        """None, or what is missing."""
        if self._measured_at is None or time.monotonic() - self._measured_at > 10 * self._interval_s + 10:
            return "no lag was measured lately: Kafka does not answer"
        return None

    def run(self) -> None:
        """Measure until stopped."""
        while not self._stopping.is_set():
            try:
                self.measure()
                self._measured_at = time.monotonic()
            except (BrokerUnavailable, KafkaException) as error:
                log.warning("lag_unknown", reason=str(error)[:200])
            self._stopping.wait(self._interval_s)

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    def measure(self) -> dict[str, int]:
        """One round; the depth of each stage. Raises BrokerUnavailable."""
        depths = {}
        for declared in STAGES:
            lags = self._topics.lag(declared.group, self._reads(declared))
            depth, oldest = 0, 0.0
            for lag in lags:
                # Transaction markers and compacted gaps count as offsets, not as work.
                records = self._topics.count_data(lag)
                depth += records
                oldest = max(oldest, self._age(declared, lag, records))
            depths[declared.name] = depth
            self._metrics.queue_depth.labels(stage=declared.name).set(depth)
            self._metrics.queue_seconds.labels(stage=declared.name).set(oldest)
        return depths

    def _reads(self, declared: Stage) -> list[str]:
        return [*declared.reads, *(self._captured() if declared.row_changes else ())]

    def _age(self, declared: Stage, lag: GroupLag, records: int) -> float:
        """Seconds for which the partition's committed offset has not moved although records wait."""
        place = (declared.name, lag.topic, lag.partition)
        if records == 0:
            self._waiting.pop(place, None)
            return 0.0
        now, committed = time.monotonic(), lag.committed if lag.committed is not None else -1
        known = self._waiting.get(place)
        if known is None or known[0] != committed:
            self._waiting[place] = (committed, now)
            return 0.0
        return now - known[1]
