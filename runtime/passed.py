"""Positions from before this process began to read receipts: the stages' own offsets say that they have ended.

Before it: `freshness.py`, when somebody waits for a position that no receipt was read of. After it: `progress.py`.

Stages acknowledge in order, and only what is durable behind them. So: (1) the first stage's group has committed beyond
the position, hence all that came of it lies in `documents`; (2) that topic's ends are read after that; (3) both groups
of the index stage have committed up to these ends, hence each record before them is in the live generation, superseded
or parked. Restarts, receipts that expired, and records that never had any (of no change, markers) do not matter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog
from confluent_kafka import KafkaException

from runtime.progress import Accepted, Progress
from runtime.topics import BrokerUnavailable, GroupLag

FIRST_GROUPS: Mapping[str, str] = {"uploads": "thalweg-parse"}
"""Who reads a topic of inputs; all others (`events`, the sources' topics) the capture stage reads."""

CAPTURE_GROUP = "thalweg-capture"
LOG = "documents"
LAST_GROUPS = ("thalweg-index", "thalweg-index-bulk")
_PATIENCE_S = 0.5
"""So long receipts have the word alone: mostly they come, and nothing has to be asked."""

_BETWEEN_S = 2.0
_FEW = 10
"""At most so many offsets at a partition's end are looked at, whether they are records at all."""

_MOST_WANTED = 10_000
"""Positions looked for in one round; who wants another one asks again."""

_log = structlog.get_logger(__name__)
Places = dict[tuple[str, int], int]


class Offsets(Protocol):
    """What is asked of the broker; `runtime/topics.py` answers. Raises BrokerUnavailable."""

    def offsets(self, names: Iterable[str], *, earliest: bool = False) -> Places:
        """The end (or start) offset of every partition of these topics."""
        ...

    def lag(self, group: str, names: Iterable[str]) -> list[GroupLag]:
        """What the group has committed, and each partition's start and end."""
        ...

    def count_data(self, lag: GroupLag) -> int:
        """How many records there are between commit and end."""
        ...


@dataclass(frozen=True)
class _Checkpoint:
    """What the first stages had done, and how far `documents` reached just after that."""

    done: Places
    ends: Places


class Passed:
    """Asks in a thread of its own, only while somebody wants a position. told is called after news, in that thread."""

    def __init__(
        self,
        broker: Offsets,
        progress: Progress,
        told: Callable[[], None],
        *,
        patience_s: float = _PATIENCE_S,
        between_s: float = _BETWEEN_S,
    ) -> None:
        self._patience_s = patience_s
        self._between_s = between_s
        self._broker = broker
        self._progress = progress
        self._told = told
        self._checkpoint: _Checkpoint | None = None
        self._wanted: set[Accepted] = set()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="passed", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop; what is being asked may take some seconds more, which nobody waits for."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()

    def want(self, positions: Collection[Accepted]) -> None:
        """Look whether these have ended, within some seconds."""
        with self._changed:
            if len(self._wanted) < _MOST_WANTED:
                self._wanted.update(positions)
            self._changed.notify()

    def look(self, positions: Collection[Accepted]) -> bool:
        """One round for these positions; True if some of them are known to have ended now. Raises BrokerUnavailable.

        The first rounds may only set a mark that the index stage is then seen to pass.
        """
        open_ = {position for position in positions if not self._progress.ended(position)}
        if not open_:
            return False
        if self._checkpoint is None or not any(_before(position, self._checkpoint.done) for position in open_):
            self._checkpoint = self._marked({position.topic for position in open_})
        checkpoint = self._checkpoint
        if not any(_before(position, checkpoint.done) for position in open_) or not self._indexed(checkpoint.ends):
            return False
        for (topic, partition), offset in checkpoint.done.items():
            self._progress.passed(topic, partition, offset)
        self._checkpoint = None
        return True

    def _marked(self, topics: Collection[str]) -> _Checkpoint:
        done: Places = {}
        for topic in sorted(topics):
            for lag in self._broker.lag(FIRST_GROUPS.get(topic, CAPTURE_GROUP), [topic]):
                if lag.committed is not None:
                    done[lag.topic, lag.partition] = lag.committed
        return _Checkpoint(done, self._broker.offsets([LOG]) if done else {})

    def _indexed(self, ends: Places) -> bool:
        """True if both groups have passed these ends."""
        if not ends:
            return False
        for group in LAST_GROUPS:
            for lag in self._broker.lag(group, [LOG]):
                end = ends.get((lag.topic, lag.partition), 0)
                until = GroupLag(lag.topic, lag.partition, lag.committed, lag.start, end)
                if until.lag > _FEW or (until.lag and self._broker.count_data(until)):
                    return False
        return True

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._stopping.is_set())
            self._stopping.wait(self._patience_s)
            with self._changed:
                wanted, self._wanted = self._wanted, set()
            try:
                if not self._stopping.is_set() and self.look(wanted):
                    self._told()
            except (BrokerUnavailable, KafkaException) as error:
                _log.warning("offsets_unknown", reason=str(error)[:200])
            self._stopping.wait(self._between_s)


def _before(position: Accepted, done: Places) -> bool:
    return position.offset < done.get((position.topic, position.partition), 0)
