"""A circuit breaker: a part that keeps failing is left alone for a while, and then asked by one call alone.

Before it: whoever asks a model or a server that may be away. After it: that part, or `CircuitOpen` at once. The
states are those of M. Nygard's Release It! Own, for it is small, and its clock is passed in.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

import structlog

T = TypeVar("T")
State = Literal["closed", "half-open", "open"]
STATES: tuple[State, ...] = ("closed", "half-open", "open")
"""A gauge shows a state as its place here: 0 is well."""

_log = structlog.get_logger(__name__)


class CircuitOpen(Exception):
    """The part was not asked, for it failed just now. retry_after_s: when it will be, at the earliest."""

    def __init__(self, part: str, retry_after_s: float) -> None:
        super().__init__(f"{part} failed repeatedly, and is left alone for {retry_after_s:.1f} s")
        self.part = part
        self.retry_after_s = retry_after_s


class Breaker:
    """Of one part and one event loop. It opens after `failures` failures in a row, for open_s seconds.

    Then one call goes through, the others are refused until it is back: if it succeeds the circuit is closed, if not
    it is open again for twice as long, at most longest_open_s. `failing` names what counts as a failure; any other
    error says nothing about the part. `wish` reads from a failure for how many seconds the part wants to be left alone:
    the circuit opens for no less, within longest_open_s. The caller bounds its calls in time: a timeout must come as a
    failure.
    """

    def __init__(
        self,
        part: str,
        *,
        failing: tuple[type[Exception], ...],
        failures: int = 5,
        open_s: float = 1.0,
        longest_open_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        told: Callable[[str, State], None] | None = None,
        wish: Callable[[Exception], float | None] = lambda _: None,
    ) -> None:
        self.part = part
        self._failing = failing
        self._most_failures = failures
        self._first_open_s = open_s
        self._longest_open_s = longest_open_s
        self._clock = clock
        self._told = told or _nobody
        self._wish = wish
        self._failures = 0
        self._open_s = open_s
        self._open_until: float | None = None
        self._probing = False
        self._turn = 0  # counts openings and closings: what a call of an earlier turn found says nothing any more
        self._told(part, "closed")

    @property
    def state(self) -> State:
        """open: refuses; half-open: the next call, or one under way, decides."""
        if self._open_until is None:
            return "closed"
        return "half-open" if self._probing or self._clock() >= self._open_until else "open"

    @property
    def retry_after_s(self) -> float:
        """Seconds until the part is asked again; 0 if it may be asked now."""
        if self._open_until is None:
            return 0.0
        return max(0.0, self._open_until - self._clock())

    async def call(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives. Raises CircuitOpen without asking, and whatever `ask` raises."""
        with self.attempt():
            return await ask()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around one call, whose end decides; also around a stream. Raises CircuitOpen before it begins."""
        turn, probe = self._entered()
        try:
            yield
        except self._failing as error:
            if turn == self._turn:
                self._failed(probe, error)
            raise
        finally:
            # Also when the caller hung up, or an error said nothing: the next call is the probe then.
            if probe:
                self._probing = False
        if turn == self._turn:
            self._succeeded()

    def _entered(self) -> tuple[int, bool]:
        if self._open_until is None:
            return self._turn, False
        left = self._open_until - self._clock()
        if left > 0 or self._probing:
            raise CircuitOpen(self.part, max(left, 0.1))
        self._probing = True
        self._told(self.part, "half-open")
        return self._turn, True

    def _failed(self, probe: bool, error: Exception) -> None:
        self._failures += 1
        if not probe and self._failures < self._most_failures:
            return
        self._open_s = min(self._open_s * 2, self._longest_open_s) if probe else self._first_open_s
        for_s = max(self._open_s, min(self._wish(error) or 0.0, self._longest_open_s))
        self._open_until = self._clock() + for_s
        self._turn += 1
        self._told(self.part, "open")
        _log.warning("circuit_opened", part=self.part, for_s=round(for_s, 1), error=type(error).__name__)

    def _succeeded(self) -> None:
        self._failures = 0
        if self._open_until is None:
            return
        self._open_until = None
        self._turn += 1
        self._told(self.part, "closed")
        _log.info("circuit_closed", part=self.part)


def _nobody(part: str, state: State) -> None:
    """Nobody is told."""
