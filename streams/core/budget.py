"""How many records a stage may still park: a bad deploy must not drain a topic into the dead letters.

Before this: the letters a stage wrote lately, those of its earlier lives included. After this: `adapters/runner.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

MINUTE_S, HOUR_S = 60.0, 3600.0


@dataclass
class LetterBudget:
    """At most so many letters in any minute, and in any hour. Times are seconds of one monotonic clock.

    earlier: when letters were written before this process began (negative where the clock began later).
    """

    per_minute: int
    per_hour: int
    earlier: Iterable[float] = ()
    _times: deque[float] = field(init=False)

    @classmethod
    def after(
        cls, written_ms: Iterable[int], per_minute: int, per_hour: int, *, now_ms: int, now: float
    ) -> LetterBudget:
        """The budget after letters written at these times, in milliseconds since 1970, when now_ms is now."""
        return cls(per_minute, per_hour, [now - (now_ms - at_ms) / 1000 for at_ms in written_ms])

    def __post_init__(self) -> None:
        self._times = deque(sorted(self.earlier))

    def left(self, now: float) -> int:
        """How many may be parked now."""
        while self._times and self._times[0] <= now - HOUR_S:
            self._times.popleft()
        minute = sum(1 for at in self._times if at > now - MINUTE_S)
        return max(0, min(self.per_minute - minute, self.per_hour - len(self._times)))

    def take(self, now: float) -> None:
        """One was parked."""
        self._times.append(now)

    def spent(self) -> str:
        """The limits, for people."""
        return f"{self.per_minute} dead letters a minute, {self.per_hour} an hour"
