"""How often was it tried in vain? Before it: `logins.py`. It keeps passwords from being guessed, in bounded memory.

Counted where it is asked, in each process: of n replicas an attacker gets n times as many tries.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_MOST_NAMES = 20_000


@dataclass
class _Window:
    ends: float
    count: int


class Failures:
    """Counts failures by name in windows of window_s. At capacity the oldest window is forgotten."""

    def __init__(
        self, window_s: float, *, clock: Callable[[], float] = time.monotonic, capacity: int = _MOST_NAMES
    ) -> None:
        self._window_s = window_s
        self._clock = clock
        self._capacity = capacity
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def begin(self, limits: Sequence[tuple[str, int]]) -> float:
        """Count a try for each name beforehand, so that tries at the same time count too; 0 if it may be made.

        Else the seconds until it may, and nothing is counted.
        """
        now = self._clock()
        held = [(self._windows.get(name), most) for name, most in limits]
        waits = [window.ends - now for window, most in held if window and window.ends > now and window.count >= most]
        if waits:
            return max(waits)
        for name, _ in limits:
            window = self._windows.get(name)
            if window is None or window.ends <= now:
                self._windows.pop(name, None)
                window = self._windows[name] = _Window(now + self._window_s, 0)
            window.count += 1
        while len(self._windows) > self._capacity:
            self._windows.popitem(last=False)
        return 0.0

    def succeeded(self, names: Sequence[str]) -> None:
        """The try was no failure: take it off again."""
        for name in names:
            window = self._windows.get(name)
            if window is not None:
                window.count = max(0, window.count - 1)
