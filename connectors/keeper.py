"""Connectors that failed are started again: Connect itself leaves a failed task as it is, for ever.

Before this: `connect.py`. After this: capture goes on by itself once the database or the broker is back. What a restart
cannot mend (a lost slot) stays failed; `thalweg sources status` names the fix.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from connectors.connect import Connect, ConnectRefused, ConnectUnavailable

PREFIX = "thalweg-"
_log = structlog.get_logger(__name__)


@dataclass
class ConnectorKeeper:
    """Looks at our connectors and restarts what failed, each with a wait that doubles up to a bound (seconds).

    Several keepers of one Connect cluster do no harm: a restart of what runs changes nothing.
    """

    connect: Connect
    first_wait_s: float = 5.0
    longest_wait_s: float = 300.0
    now: Callable[[], float] = time.monotonic
    _due: dict[str, tuple[float, float]] = field(default_factory=dict)

    def look(self) -> list[str]:
        """One look; returns the connectors restarted. Raises ConnectUnavailable."""
        restarted = []
        for name in self.connect.names():
            if not name.startswith(PREFIX):
                continue
            state = self.connect.status(name)
            if state is None or state.failure is None:
                if state is not None and state.running:
                    self._due.pop(name, None)
                continue
            due, wait = self._due.get(name, (0.0, self.first_wait_s))
            if self.now() < due:
                continue
            _log.warning("connector_failed", connector=name, reason=state.failure, next_try_s=wait)
            self._due[name] = (self.now() + wait, min(wait * 2, self.longest_wait_s))
            self.connect.restart_failed(name)
            restarted.append(name)
        return restarted


class KeeperThread:
    """A keeper that looks every interval_s (with jitter) until closed."""

    def __init__(self, connect: Connect, *, interval_s: float = 5.0) -> None:
        self._connect = connect
        self._keeper = ConnectorKeeper(connect)
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="connector-keeper", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Stop; the look under way may take a few seconds more, and is not waited for longer than 2."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(2)
        self._connect.close()

    def _run(self) -> None:
        away = False
        while not self._stopping.wait(self._interval_s * random.uniform(0.8, 1.2)):  # noqa: S311  # jitter is no secret
            try:
                self._keeper.look()
                away = False
            except (ConnectUnavailable, ConnectRefused) as error:
                if not away:
                    _log.warning("connect_unavailable", reason=str(error))
                away = True
