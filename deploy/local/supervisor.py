"""The daemon: starts everything side by side, starts again what dies, stops in reverse order.

Before: `stack` wrote a `plan.Plan` and started `python -m deploy.local.supervisor HOME`. After: `state` shows
what is. One supervisor a home, by a lock that ends with the process. SIGTERM or SIGINT stops the stack in order.
If the supervisor itself is killed, the kernel takes its children along (`child.tether`), so the next start finds
a clean field.

Exit status: 0 stopped when asked; 3 another supervisor has this home; 1 it could not begin (see supervisor.log).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from deploy.local import apps, plan, ports, state
from deploy.local.errors import LocalStackError, NotReadyError
from deploy.local.keeper import Keeper
from deploy.local.logs import CappedLog
from deploy.local.ownership import end_leftovers, take_home
from deploy.local.places import Home
from deploy.local.server import Context, Server
from deploy.local.steps import run_step

TIE_CHECK_S = 1.0
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
        """Servers and the steps on them, then our own processes; then nothing but keeping them."""
        for keeper in self._servers.values():
            keeper.begin(self._started_here(keeper.server.after))
        first = [keeper.first_outcome() for keeper in self._servers.values()]
        steps = [self._take(step) for step in apps.STEPS] if self._own else []
        good = all(await asyncio.gather(*first, *steps))
        if good:
            for keeper in self._own.values():
                keeper.begin([])
            good = all(await asyncio.gather(*(keeper.first_outcome() for keeper in self._own.values())))
        self._phase = state.Phase.READY if good else state.Phase.FAILED
        self._changed()
        await self._stop.wait()

    def _started_here(self, names: Sequence[str]) -> list[Keeper]:
        """Those of these servers that are not elsewhere: only they can be waited for."""
        return [self._servers[name] for name in names if name in self._servers]

    async def _take(self, step: apps.Step) -> bool:
        """One step, once its servers are ready, tried again while they are settling. True if it succeeded."""
        log = CappedLog(self._home.log(step.name))
        record: dict[str, object] = {"state": "waiting", "log": log.name}
        self._steps[step.name] = record
        try:
            needed = await asyncio.gather(*(keeper.first_outcome() for keeper in self._started_here(step.after)))
            reason = "not started, because its server did not start"
            if all(needed):
                record["state"] = "starting"
                self._changed()
                reason = await run_step(step, self._context, self._environ, log)
            record |= {"state": "failed", "reason": reason} if reason else {"state": "ready"}
            self._changed()
        finally:
            log.close()
        return not reason

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
    kept = {"mask_key": given.home.mask_key_file, "seal_keys": given.home.seal_keys_file}
    sections.append({"privacy": {name: file.read_text().strip() for name, file in kept.items()}})
    for app in apps.APPS if wanted.with_apps else ():
        section = app.api or ("lag_exporter" if app.name == "lag-exporter" else "")
        if section:
            sections.append({section: {"port": given.ports[apps.port_name(app)]}})
    for values in sections:
        for section, found in values.items():
            merged.setdefault(section, {}).update(found)
    return merged


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
