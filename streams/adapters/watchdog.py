"""Ends a worker that makes no progress although records wait for it: its supervisor starts it anew.

Before this: `bootstrap.py`. Faust has been seen to stop committing, or fetching, without a word. What counts is what
the broker says of this worker's partitions and what its own counters say; a worker that waits for something that is
away is not stuck.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

log = structlog.get_logger()


JOIN_S = 60.0
"""How long a worker may be outside its group: a join that hangs ends here, a rebalance takes a few seconds."""


class Watchdog:
    """Looks every few seconds, from a thread of its own.

    joined: whether the coordinator counts this worker among its group. pending: of each partition of this worker the
    committed offset and how many records wait behind it. work: a number that grows while work is done. waiting: whether
    the loop waits for something that is away. abort: ends the process.
    """

    def __init__(
        self,
        *,
        joined: Callable[[], bool],
        pending: Callable[[], Mapping[tuple[str, int], tuple[int | None, int]]],
        work: Callable[[], float],
        waiting: Callable[[], bool],
        abort: Callable[[str], None],
        limit_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._joined, self._pending, self._work, self._waiting, self._abort = joined, pending, work, waiting, abort
        self._limit_s = limit_s
        self._monotonic = monotonic
        self._last: object = None
        self._since = self._member_at = monotonic()

    def start(self, *, every_s: float = 15.0) -> None:
        """Begin to look."""

        def run() -> None:
            while True:
                time.sleep(every_s)
                try:
                    self.look()
                except Exception as error:  # noqa: BLE001  a watchdog that died would watch nobody
                    log.warning("watchdog_cannot_see", reason=f"{type(error).__name__}: {error}"[:200])

        threading.Thread(target=run, name="watchdog", daemon=True).start()

    def look(self) -> None:
        """One look; aborts if nothing has moved for the limit although records wait, or if the worker has not been in
        its group for JOIN_S. Raises BrokerUnavailable.
        """
        now = self._monotonic()
        if self._joined():
            self._member_at = now
        elif now - self._member_at > JOIN_S:
            self._abort(f"not a member of its group for {now - self._member_at:.0f} s")
        pending = self._pending()
        state = ({place: committed for place, (committed, _) in pending.items()}, self._work())
        if self._waiting() or state != self._last or not any(records for _, records in pending.values()):
            self._last, self._since = state, now
        elif now - self._since > self._limit_s:
            self._abort(f"no progress for {now - self._since:.0f} s although records wait")
