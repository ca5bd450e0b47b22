"""What set-up and start say while they work: one line a thing, live on a terminal, plain lines elsewhere.

Before: nothing. After: `parts` and `commands` report into it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Reporter(Protocol):
    """Told about named things as they go on; called from several threads."""

    def begin(self, name: str, doing: str) -> None:
        """`name` is now being worked on; `doing` says what, in a few words. May be called again."""

    def end(self, name: str, result: str) -> None:
        """`name` is finished; `result` says how, in a few words."""


class Silent:
    """Says nothing: for callers that only want the result."""

    def begin(self, name: str, doing: str) -> None:
        """Ignore."""

    def end(self, name: str, result: str) -> None:
        """Ignore."""


class Lines:
    """Plain lines for logs and pipes, with a sign of life every `pulse_s` seconds while something runs."""

    def __init__(self, write: Callable[[str], None], pulse_s: float = 30.0) -> None:
        self._write = write
        self._pulse_s = pulse_s
        self._running: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._pulse, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def begin(self, name: str, doing: str) -> None:
        """Print the start, or the next step of it."""
        with self._lock:
            started = self._running.get(name, ("", time.monotonic()))[1]
            self._running[name] = (doing, started)
            self._write(f"{name}: {doing}")

    def end(self, name: str, result: str) -> None:
        """Print the result."""
        with self._lock:
            started = self._running.pop(name, None)
            took = f" ({time.monotonic() - started[1]:.0f} s)" if started else ""
            self._write(f"{name}: {result}{took}")

    def _pulse(self) -> None:
        while not self._done.wait(self._pulse_s):
            with self._lock:
                for name, (doing, started) in self._running.items():
                    self._write(f"{name}: still {doing} ({time.monotonic() - started:.0f} s)")


class Live:
    """A live list on a terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]ok[/]"),
            TextColumn("{task.fields[part]:<16}"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, name: str, doing: str) -> None:
        """Add the line, or change what it says."""
        if name in self._tasks:
            self._progress.update(self._tasks[name], description=doing)
        else:
            self._tasks[name] = self._progress.add_task(doing, total=1, part=name)

    def end(self, name: str, result: str) -> None:
        """Tick the line off."""
        self.begin(name, result)
        self._progress.update(self._tasks[name], completed=1)


def for_console(console: Console) -> Lines | Live:
    """The right one for where the output goes; use it as a context manager."""
    if console.is_terminal and not console.is_dumb_terminal:
        return Live(console)
    return Lines(lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))
