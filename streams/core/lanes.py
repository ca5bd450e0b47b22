"""Which lane a change takes: live for what somebody waits for, bulk for what comes in loads or is large.

Before this: `changes.py`. After this: capture and parse write the header, the index stage's groups part by it. No
order is lost by it: the newest manifest wins, whichever lane writes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.lanes import Lane
from schemas.records import DocumentChange, Operation

_MOST_SOURCES = 10_000
_MOST_DOCUMENTS = 10_000

_STAYS_MS = 60_000
"""How long a live document stays live at no cost: its changes wait for each other and are indexed as one."""


@dataclass
class Allowance:
    """How much of a source is live: a burst, refilled at a pace, by the log's own time."""

    burst: float
    per_second: float
    left: float
    at_ms: int

    def take(self, at_ms: int) -> bool:
        """Whether one more is within the allowance."""
        self.left = min(self.burst, self.left + max(0, at_ms - self.at_ms) / 1000 * self.per_second)
        self.at_ms = max(self.at_ms, at_ms)
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass
class LaneRules:
    """The rules, and what each source has left of its allowance.

    large_text: characters above which a document is bulk, wherever it comes from. burst and per_second: documents of
    one source that stay live when nothing says what they are. A document that changes again soon is one document: a hot
    row is no load, and all of its changes in one lane are indexed as one when a worker is behind.
    """

    large_text: int = 250_000
    burst: int = 200
    per_second: float = 20.0
    _left: dict[tuple[str, str], Allowance] = field(default_factory=dict)
    _live_at: dict[str, int] = field(default_factory=dict)

    def by_size(self, change: DocumentChange) -> Lane:
        """The lane of a change that came alone, as an uploaded file does."""
        return Lane.BULK if len(change.text or "") > self.large_text else Lane.LIVE

    def captured(self, change: DocumentChange, *, hint: Lane, at_ms: int) -> Lane:
        """The lane of a captured change. hint: what its publisher said; at_ms: when its record was logged."""
        if change.operation is Operation.BARRIER:
            # It ends documents for all to see at once, and what it ends may still wait in the other lane.
            return Lane.LIVE
        snapshot = change.origin.kind == "cdc" and change.position.phase == 0
        if snapshot or Lane.BULK in (hint, self.by_size(change)):
            return Lane.BULK
        source = (change.tenant, change.origin.source)
        if source not in self._left:
            if len(self._left) >= _MOST_SOURCES:
                self._left.clear()  # publishers name their source themselves: names without end are no reason to grow
            self._left[source] = Allowance(self.burst, self.per_second, self.burst, at_ms)
        if at_ms - self._live_at.get(change.key, -_STAYS_MS) >= _STAYS_MS:
            if not self._left[source].take(at_ms):
                return Lane.BULK
            if len(self._live_at) >= _MOST_DOCUMENTS:
                self._live_at.clear()
        self._live_at[change.key] = at_ms
        return Lane.LIVE
