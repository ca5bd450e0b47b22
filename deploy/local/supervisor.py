"""The daemon: starts everything side by side, starts again what dies, stops in reverse order.

Before: `stack` wrote a `plan.Plan` and started `python -m deploy.local.supervisor HOME`. After: `state` shows
what is. One supervisor a home, by a lock that ends with the process. SIGTERM or SIGINT stops the stack in order.
If the supervisor itself is killed, the kernel takes its children along (`child.tether`), so the next start finds
a clean field.

Exit status: 0 stopped when asked; 3 another supervisor has this home; 1 it could not begin (see supervisor.log).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from deploy.local import apps, plan, ports, state
from deploy.local.child import Child
from deploy.local.errors import LocalStackError, NotReadyError
from deploy.local.keeper import Keeper
from deploy.local.logs import CappedLog
from deploy.local.places import Home
from deploy.local.server import Context, Server

STEP_TRIES = 4
STEP_TIMEOUT_S = 120.0
TIE_CHECK_S = 1.0
LEFTOVER_WAIT_S = 10.0
STATUS_TAKEN = 3


class Supervisor:
    """One stack, from its first process to its last. `run` is its whole life."""

    def __init__(self, home: Home, wanted: plan.Plan, given: Context, environ: Mapping[str, str]) -> None:
        self._home = home
        self._plan = wanted
        self._context = given
        self._environ = environ
        self._stop = asyncio.Event()
        servers, own = plan.describe(wanted, given)
        self._servers = {
            server.name: Keeper(server, self._log(server.name), environ, self._changed) for server in servers
        }
        self._own = {server.name: Keeper(server, self._log(server.name), environ, self._changed) for server in own}
        self._steps: dict[str, dict[str, object]] = {}
        self._phase = state.Phase.STARTING
        self._settings = settings_section(wanted, given, servers)
        self._born = psutil.Process().create_time()

    async def run(self) -> None:
        """Start all, keep all, until asked to stop; returns when nothing of ours runs any more."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        self._changed()
        tie = asyncio.create_task(self._watch_tie())
        life = asyncio.create_task(self._live())
        asked = asyncio.create_task(self._stop.wait())
        await asyncio.wait({life, asked}, return_when=asyncio.FIRST_COMPLETED)
        if life.done() and (error := life.exception()) is not None:
            print(f"the supervisor failed: {error!r}", file=sys.stderr, flush=True)  # noqa: T201 - its log file
            self._phase = state.Phase.FAILED
        self._phase = state.Phase.STOPPING
        self._changed()
        life.cancel()
        with suppress(asyncio.CancelledError):
            await life
        tie.cancel()
        await self._stop_all()
        self._phase = state.Phase.STOPPED
        self._changed()

    async def _live(self) -> None:
        """Servers, then steps, then our own processes; then nothing but keeping them."""
        for keeper in self._servers.values():
            keeper.begin([self._servers[name] for name in keeper.server.after if name in self._servers])
        outcomes = await asyncio.gather(*(keeper.first_outcome() for keeper in self._servers.values()))
        good = all(outcomes)
        if good and self._own:
            good = await self._take_steps()
        if good:
            for keeper in self._own.values():
                keeper.begin([])
            good = all(await asyncio.gather(*(keeper.first_outcome() for keeper in self._own.values())))
        self._phase = state.Phase.READY if good else state.Phase.FAILED
        self._changed()
        await self._stop.wait()

    async def _take_steps(self) -> bool:
        log = CappedLog(self._home.log("bootstrap"))
        try:
            for step in apps.STEPS:
                if not await self._take(step, log):
                    return False
        finally:
            log.close()
        return True

    async def _take(self, step: apps.Step, log: CappedLog) -> bool:
        """One step, tried again where the servers are still settling. True if it succeeded."""
        record: dict[str, object] = {"state": "starting", "log": str(self._home.log("bootstrap"))}
        self._steps[step.name] = record
        self._changed()
        once = Server(
            name=step.name, command=apps.command(step.arguments), probe=lambda: None,
            env=apps.environment(self._context), inherit_env=True, folder=self._home.run,
        )  # fmt: skip
        for attempt in range(1, STEP_TRIES + 1):
            log.write(f"--- thalweg {' '.join(step.arguments)} (try {attempt} of {STEP_TRIES})\n".encode())
            child = await Child.start(once, log, self._environ)
            try:
                status = await asyncio.wait_for(child.wait(), STEP_TIMEOUT_S)
                reason = f"`thalweg {' '.join(step.arguments)}` ended with status {status}"
            except TimeoutError:
                status, reason = 1, f"`thalweg {' '.join(step.arguments)}` was not done after {STEP_TIMEOUT_S:.0f} s"
            finally:
                child.kill()
            if status == 0:
                record["state"] = "ready"
                self._changed()
                return True
            if attempt < STEP_TRIES:
                await asyncio.sleep(random.uniform(0.5, 1) * 2 ** (attempt - 1))  # noqa: S311 - jitter
        record |= {"state": "failed", "reason": reason}
        self._changed()
        return False

    async def _stop_all(self) -> None:
        """Our own processes first, then each server when nothing that waits for it runs any more."""
        await asyncio.gather(*(keeper.stop() for keeper in self._own.values()))
        running = dict(self._servers)
        while running:
            needed = {name for keeper in running.values() for name in keeper.server.after}
            # Databases that connectors read are stopped after Connect, or it would report them lost.
            if "connect" in running:
                needed.add("postgres")
            last = {name: keeper for name, keeper in running.items() if name not in needed} or running
            await asyncio.gather(*(keeper.stop() for keeper in last.values()))
            running = {name: keeper for name, keeper in running.items() if name not in last}

    async def _watch_tie(self) -> None:
        """A stack made for a test run ends with it, also if that run was killed."""
        if self._plan.tied_to is None:
            return
        with suppress(psutil.NoSuchProcess):
            tied = psutil.Process(self._plan.tied_to)
            # Polled, because the kernel tells only a parent when a process ends.
            while tied.is_running() and tied.status() != psutil.STATUS_ZOMBIE:  # noqa: ASYNC110
                await asyncio.sleep(TIE_CHECK_S)
        self._stop.set()

    def _log(self, name: str) -> CappedLog:
        return CappedLog(self._home.log(name))

    def _changed(self) -> None:
        """Write the state file."""
        own = {name: dict(keeper.record()) for name, keeper in self._own.items()}
        state.write(
            self._home,
            state.StackState(
                format=state.FORMAT,
                home=str(self._home.root),
                phase=self._phase,
                supervisor={"pid": os.getpid(), "born": self._born, "log": str(self._home.log("supervisor"))},
                servers={name: dict(keeper.record()) for name, keeper in self._servers.items()}
                | plan.external_records(self._plan),
                steps=self._steps,
                processes=own,
                apis={name: str(record["url"]) for name, record in own.items() if "url" in record},
                weaviate_api_key_file=str(self._home.weaviate_key_file),
                demo_key_file=str(self._home.demo_key_file),
                settings=self._settings,
            ),
        )


def settings_section(wanted: plan.Plan, given: Context, servers: Sequence[Server]) -> dict[str, dict[str, object]]:
    """The section `settings` of the state file: what runtime.settings takes from a running stack."""
    merged: dict[str, dict[str, object]] = {}
    sections = [server.settings for server in servers] + [plan.external_settings(wanted)]
    sections.append({"access": {"demo_key_file": str(given.home.demo_key_file)}})
    for app in apps.APPS if wanted.with_apps else ():
        section = app.api or ("lag_exporter" if app.name == "lag-exporter" else "")
        if section:
            sections.append({section: {"port": given.ports[apps.port_name(app)]}})
    for values in sections:
        for section, found in values.items():
            merged.setdefault(section, {}).update(found)
    return merged


def take_home(home: Home) -> int | None:
    """Lock the home for this process; None if another supervisor has it. The lock ends with the process."""
    descriptor = os.open(home.supervisor_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # `state.supervisor_pid` holds a shared lock for a moment while it asks.
    for _ in range(20):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            return descriptor
        time.sleep(0.05)
    os.close(descriptor)
    return None


def end_leftovers(home: Home) -> None:
    """End what an earlier supervisor of this home left behind, told by process id and birth.

    The kernel has done so already unless a child changed its own mind about it. Bounded by `LEFTOVER_WAIT_S`.
    """
    last = state.read(home)
    if last is None:
        return
    left = []
    for record in (*last["servers"].values(), *last["processes"].values()):
        with suppress(psutil.NoSuchProcess, KeyError, TypeError):
            process = psutil.Process(record["pid"])
            if abs(process.create_time() - record["born"]) < 1:
                process.kill()
                left.append(process)
    psutil.wait_procs(left, timeout=LEFTOVER_WAIT_S)


def main(arguments: list[str]) -> int:
    """Run the stack of one home until stopped."""
    home = Home(Path(arguments[0]))
    if take_home(home) is None:
        return STATUS_TAKEN
    end_leftovers(home)
    wanted = plan.load(home.run / "plan.json")
    memory = home.run / "ports.json"
    claims = ports.Claims()
    chosen = ports.choose(
        plan.port_names(wanted),
        ports.recall(memory),
        defaults=ports.DEFAULTS if wanted.usual_ports else {},
        claim=claims.claim,
    )
    ports.remember(memory, chosen)

    async def live() -> None:
        await Supervisor(home, wanted, plan.context(wanted, home, chosen), dict(os.environ)).run()

    asyncio.run(live())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (LocalStackError, NotReadyError, OSError) as problem:
        sys.exit(f"{problem}")
