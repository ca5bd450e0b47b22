"""Threads of which one runs at a time, and only as far as it is told: a process that can be stopped anywhere.

Before this: nothing. After this: `process.py`. The stages' code is synchronous below its ports, so a generator could
not be stopped inside it; a thread that hands the baton back can.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any


class Died(BaseException):
    """The process died here, as by `kill -9`. No `except Exception` sees it."""


class InlineLoop(asyncio.SelectorEventLoop):
    """An event loop whose threads are the caller's: `asyncio.to_thread` runs at once, so that a seed decides all."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        """As the loop's, done when it returns."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  whatever it is belongs to who awaits it
            future.set_exception(error)
        return future


class Fiber:
    """One such thread, used again and again."""

    _idle: list[Fiber] = []  # noqa: RUF012  the pool

    def __init__(self) -> None:
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._task: Callable[[], None] | None = None
        self._error: BaseException | None = None
        self.loop = InlineLoop()
        threading.Thread(target=self._live, daemon=True, name="simulated").start()

    @classmethod
    def take(cls, task: Callable[[], None]) -> Fiber:
        """A fiber that runs the task when it is resumed."""
        fiber = cls._idle.pop() if cls._idle else cls()
        fiber._task = task
        return fiber

    def resume(self) -> bool:
        """Run until the task pauses (True) or has ended (False). Raises what the task raised."""
        self._go.release()
        self._back.acquire()
        if self._task is not None:
            return True
        self._idle.append(self)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return False

    def pause(self) -> None:
        """Called by the task: hand the baton back."""
        self._back.release()
        self._go.acquire()

    def run(self, work: Awaitable[None]) -> None:
        """Called by the task: run a coroutine to its end."""
        try:
            self.loop.run_until_complete(work)
        except Died:
            # What it began beside it dies too: on a loop that is closed nothing of it is ever woken.
            self.loop.set_exception_handler(lambda _, __: None)
            self.loop.close()
            self.loop = InlineLoop()
            raise

    def _live(self) -> None:
        while True:
            self._go.acquire()
            assert self._task is not None
            try:
                self._task()
            except Died:
                pass
            except BaseException as error:  # noqa: BLE001  handed to who resumed
                self._error = error
            self._task = None
            self._back.release()
