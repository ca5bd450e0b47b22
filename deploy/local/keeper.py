"""Keeps one process running: starts it, asks it until it serves, starts it again when it ends.

Before: `supervisor` says begin. After: the record that goes into the state file.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from deploy.local.child import Child
from deploy.local.errors import LocalStackError, NotReadyError
from deploy.local.logs import CappedLog
from deploy.local.places import replace_file
from deploy.local.server import Server
from deploy.local.state import ProcessState

FIRST_DELAY_S = 0.2
LAST_DELAY_S = 10.0
# One that served this long is well: its next death starts again at the shortest wait.
WELL_AFTER_S = 30.0
# Deaths before it ever served; then it is a fault that waiting does not cure, and `up` must say so.
FIRST_TRIES = 4
ASK_EVERY_S = 0.15
CLEAN_END = "ended with status 0"


def delay(deaths: int, draw: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds to wait before start number `deaths` + 1: doubling from 0.2 to 10, the upper half of it by chance."""
    full = min(LAST_DELAY_S, FIRST_DELAY_S * 2.0 ** max(0, deaths - 1))
    return draw(full / 2, full)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)


class Keeper:
    """One server or process of ours over its whole life. `changed` is called whenever `record` says something new."""

    def __init__(self, server: Server, log: CappedLog, environ: Mapping[str, str], changed: Callable[[], None]) -> None:
        self.server = server
        self._log = log
        self._environ = environ
        self._changed = changed
        self._state: ProcessState = "waiting"
        self._reason = ""
        self._restarts = 0
        self._child: Child | None = None
        self._born: float | None = None
        self._first: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None

    def begin(self, after: Sequence[Keeper]) -> None:
        """Start keeping it, once all of `after` have served."""
        self._task = asyncio.create_task(self._keep(after))

    async def first_outcome(self) -> bool:
        """True once it has served for the first time, False once that is given up."""
        return await asyncio.shield(self._first)

    async def stop(self) -> None:
        """End it and stop keeping it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._child is not None and not self._child.ended:
            await self._child.stop(self.server.stop_signal, self.server.stop_s)
            await self._child.wait()
        self._child = None
        self._say("stopped")

    def record(self) -> dict[str, Any]:
        """What the state file shows of it; see `state.ProcessRecord`."""
        alive = self._child is not None and not self._child.ended
        found: dict[str, Any] = {
            "name": self.server.name,
            "state": self._state,
            "pid": self._child.pid if self._child is not None and alive else None,
            "born": self._born if alive else None,
            "restarts": self._restarts,
            "log": self._log.name,
            **self.server.address,
        }
        if self._reason:
            found["reason"] = self._reason
        return found

    async def _keep(self, after: Sequence[Keeper]) -> None:
        if not all(await asyncio.gather(*(keeper.first_outcome() for keeper in after))):
            self._give_up("not started, because " + " and ".join(k.server.name for k in after) + " did not start")
            return
        deaths = 0
        while True:
            began = time.monotonic()
            try:
                reason = await self._live_once()
            except (LocalStackError, OSError) as error:
                reason = str(error)
            served = self._state == "ready"
            # One that served and ends by itself asks to be started anew (capture, when the list of sources changes).
            well = served and (reason == CLEAN_END or time.monotonic() - began > WELL_AFTER_S)
            deaths = 1 if well else deaths + 1
            self._log.write(f"--- {self.server.name}: {reason}\n".encode())
            if not self._first.done() and (deaths >= FIRST_TRIES or self._out_of_time(began)):
                self._give_up(reason)
                return
            self._restarts += 1
            self._say("starting", reason)
            await asyncio.sleep(delay(deaths))

    async def _live_once(self) -> str:
        """From start to end of one process; returns why it ended."""
        self._say("starting", self._reason)
        for file, text in self.server.files.items():
            replace_file(file, text)
        if self.server.scratch is not None:
            await asyncio.to_thread(_empty, self.server.scratch)
        if self.server.first_run is not None:
            await asyncio.to_thread(self.server.first_run)
        self._child = child = await Child.start(self.server, self._log, self._environ)
        with suppress(psutil.NoSuchProcess):
            self._born = psutil.Process(child.pid).create_time()
        self._say("starting", self._reason)
        ended = asyncio.create_task(child.wait())
        try:
            too_late = await self._ask_until_ready(ended)
            if not too_late and not ended.done():
                self._say("ready")
                if not self._first.done():
                    self._first.set_result(True)
                await asyncio.wait({ended})
        finally:
            if not ended.done():
                ended.cancel()
        if too_late:
            await child.stop(self.server.stop_signal, self.server.stop_s)
            await child.wait()
            return too_late
        return f"ended with status {ended.result()}"

    async def _ask_until_ready(self, ended: asyncio.Task[int]) -> str:
        """Returns when it serves or has ended; with what it last said if its time is up before."""
        until = time.monotonic() + self.server.ready_s
        last = "no answer"
        while not ended.done():
            if time.monotonic() > until:
                return f"not ready after {self.server.ready_s:.0f} s: {last}"
            try:
                await asyncio.to_thread(self.server.probe)
            except NotReadyError as error:
                last = str(error)
                await asyncio.wait({ended}, timeout=ASK_EVERY_S)
            else:
                # Another program on this port could have answered while ours was failing to get it.
                await asyncio.wait({ended}, timeout=0.05)
                return ""
        return ""

    def _out_of_time(self, began: float) -> bool:
        return time.monotonic() - began >= self.server.ready_s

    def _give_up(self, reason: str) -> None:
        self._say("failed", reason)
        if not self._first.done():
            self._first.set_result(False)

    def _say(self, new: ProcessState, reason: str = "") -> None:
        self._state, self._reason = new, reason
        self._changed()
