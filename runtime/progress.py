"""Which accepted inputs have come to an end, and how fast: what receipts say, in little memory. Pure but for a lock.

Before it: `freshness.py` (which reads the topic), `passed.py` (what was before that). After it: `min_position`,
`?wait=searchable`, and the freshness in `/v1/stats`.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from dataclasses import dataclass

from schemas.records import Receipt, ReceiptStage

_POSITION = re.compile(r"([A-Za-z0-9._-]{1,249})/(\d{1,6})@(\d{1,18})")
_MOST_RUNS = 10_000
_MOST_FAILURES = 10_000
_SAMPLES = 1000


@dataclass(frozen=True)
class Accepted:
    """The position of an accepted input, as the upload API or a delivery gave it: `topic/partition@offset`."""

    topic: str
    partition: int
    offset: int

    @staticmethod
    def parse(text: str) -> Accepted:
        """Back from the text. Raises ValueError."""
        match = _POSITION.fullmatch(text)
        if match is None:
            raise ValueError("is not a position: topic/partition@offset")
        return Accepted(match[1], int(match[2]), int(match[3]))

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"


class Runs:
    """A dense set of whole numbers, kept as runs [first, last].

    At 10,000 runs the lowest one is forgotten, but for one that begins at 0: what is said to be in the set is in it.
    """

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, number: int) -> None:
        """Put the number in."""
        at = bisect_right(self._firsts, number)
        if at and number <= self._lasts[at - 1]:
            return
        joins_left = at > 0 and self._lasts[at - 1] == number - 1
        joins_right = at < len(self._firsts) and self._firsts[at] == number + 1
        if joins_left and joins_right:
            self._lasts[at - 1] = self._lasts.pop(at)
            del self._firsts[at]
        elif joins_left:
            self._lasts[at - 1] = number
        elif joins_right:
            self._firsts[at] = number
        else:
            self._firsts.insert(at, number)
            self._lasts.insert(at, number)
            if len(self._firsts) > _MOST_RUNS:
                lowest = 1 if self._firsts[0] == 0 else 0
                del self._firsts[lowest], self._lasts[lowest]

    def add_below(self, number: int) -> None:
        """Put all numbers from 0 up to this one, itself left out, in."""
        if number < 1:
            return
        at = bisect_right(self._firsts, number)
        last = max(number - 1, self._lasts[at - 1] if at else 0)
        self._firsts[:at], self._lasts[:at] = [0], [last]

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number)
        return at > 0 and number <= self._lasts[at - 1]

    @property
    def highest(self) -> int | None:
        """The highest number, None if there is none."""
        return self._lasts[-1] if self._lasts else None


class Progress:
    """What receipts said so far. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: dict[tuple[str, int], Runs] = {}
        self._failed: OrderedDict[Accepted, tuple[str, str, str]] = OrderedDict()
        self._newest: dict[str, tuple[int, str]] = {}
        self._delays_ms: dict[str, deque[tuple[int, int]]] = {}

    def take(self, receipt: Receipt) -> None:
        """Learn from a receipt; those of progress are left out. Raises ValueError for an odd position."""
        if not receipt.stage.terminal:
            return
        accepted = Accepted.parse(receipt.accepted)
        with self._lock:
            self._ended.setdefault((accepted.topic, accepted.partition), Runs()).add(accepted.offset)
            self._note_failure(accepted, receipt)
            if receipt.receipt_ms >= self._newest.get(receipt.tenant, (0, ""))[0]:
                self._newest[receipt.tenant] = (receipt.receipt_ms, receipt.accepted)
            if receipt.stage in (ReceiptStage.INDEXED, ReceiptStage.DELETED) and receipt.source_ms:
                delays = self._delays_ms.setdefault(receipt.tenant, deque(maxlen=_SAMPLES))
                delays.append((receipt.receipt_ms, max(0, receipt.receipt_ms - receipt.source_ms)))

    def ended(self, position: Accepted) -> bool:
        """True if the input at this position was indexed, superseded, deleted or parked."""
        with self._lock:
            runs = self._ended.get((position.topic, position.partition))
            return runs is not None and position.offset in runs

    def passed(self, topic: str, partition: int, offset: int) -> None:
        """Everything in the partition before this offset has ended, whatever receipts were read."""
        with self._lock:
            self._ended.setdefault((topic, partition), Runs()).add_below(offset)

    def failed(self, tenant: str, position: Accepted) -> str | None:
        """Why the tenant's input at this position was parked; None: it was not, or nobody knows any more.

        The latest 10,000 failures are known, from as far back as receipts were read. A redrive that succeeds ends one.
        """
        with self._lock:
            found = self._failed.get(position)
            return found[2] if found is not None and found[0] == tenant else None

    def reached(self, position: Accepted) -> int | None:
        """The highest offset in the position's partition that has ended; None: none is known."""
        with self._lock:
            runs = self._ended.get((position.topic, position.partition))
            return None if runs is None else runs.highest

    def newest(self, tenant: str) -> str | None:
        """The position that ended last, of this tenant."""
        with self._lock:
            found = self._newest.get(tenant)
            return None if found is None else found[1]

    def freshness(self, tenant: str, since_ms: int) -> tuple[float | None, float | None, int]:
        """(p50, p95, samples): seconds from the source's commit to searchable, of the latest receipts since then."""
        with self._lock:
            delays = sorted(delay for at, delay in self._delays_ms.get(tenant, ()) if at >= since_ms)
        if not delays:
            return None, None, 0
        at = [delays[min(len(delays) - 1, int(len(delays) * share))] / 1000 for share in (0.5, 0.95)]
        return at[0], at[1], len(delays)

    def _note_failure(self, accepted: Accepted, receipt: Receipt) -> None:
        """The lock is held. One position may have changed two documents (a row's key): only its own success counts."""
        if receipt.stage is ReceiptStage.FAILED:
            self._failed[accepted] = (receipt.tenant, receipt.key, receipt.reason or "unknown")
            if len(self._failed) > _MOST_FAILURES:
                self._failed.popitem(last=False)
        elif (known := self._failed.get(accepted)) is not None and known[1] == receipt.key:
            del self._failed[accepted]
