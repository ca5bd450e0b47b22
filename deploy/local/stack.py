"""The door to the local stack for Python callers: start it, look at it, stop it.

Before: `parts` and `plan`. After: `commands` (for people) and the tests' session fixture. The stack itself lives in
the supervisor's process; this module only starts that, reads its state file and signals it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.local import apps, parts, plan, postgres, state
from deploy.local.account import account_for
from deploy.local.errors import LocalStackError, StartError
from deploy.local.logs import tail
from deploy.local.places import Home, default_home
from deploy.local.progress import Reporter, Silent
from deploy.local.supervisor import STATUS_TAKEN

# The sum of what servers and processes may take at worst; each has its own, shorter deadline.
START_TIMEOUT_S = 420.0
STOP_TIMEOUT_S = 150.0
LOOK_EVERY_S = 0.1
# The last four are made by our own processes.
OWN_FOLDERS = ("data", "run", "logs", "secrets", "blobs", "spool", "faust", "vectors")


@dataclass(frozen=True)
class Stack:
    """A running (or stopped) stack, by its home."""

    home: Home

    def state(self) -> state.StackState:
        """What is now; nothing in it if this home never had a stack."""
        return state.current(self.home)

    def running(self) -> bool:
        """Whether its supervisor lives."""
        return state.supervisor_pid(self.home) is not None

    def server(self, name: str) -> dict[str, Any]:
        """State, pid and addresses of one server, as in `thalweg status --json`. KeyError if it is not part of it."""
        return self.state()["servers"][name]

    def environment(self) -> dict[str, str]:
        """Variables with which any process of ours finds this stack: its home."""
        return {"THALWEG_HOME": str(self.home.root)}

    def wait_ready(self, name: str, deadline_s: float = 60.0, *, other_than_pid: int | None = None) -> dict[str, Any]:
        """Wait until a server or process is ready, and not the one with `other_than_pid`; returns its record.

        Raises `StartError` after `deadline_s`.
        """
        until = time.monotonic() + deadline_s
        while time.monotonic() < until:
            now = self.state()
            record = {**now["servers"], **now["processes"]}.get(name)
            if record is not None and record["state"] == "ready" and record["pid"] != other_than_pid:
                return record
            time.sleep(LOOK_EVERY_S)
        raise _failure(self.home, name, f"{name} was not ready after {deadline_s:.0f} s")

    def stop(self, *, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """Stop everything in reverse order; False if nothing ran. Raises `LocalStackError` after `timeout_s`."""
        pid = state.supervisor_pid(self.home)
        if pid is None:
            return False
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + timeout_s
        while state.supervisor_pid(self.home) is not None:
            if time.monotonic() > until:
                raise LocalStackError(
                    f"The stack in {self.home.root} did not stop within {timeout_s:.0f} s.",
                    f"See {self.home.log('supervisor')}. To end it at once, data safe: kill -9 {pid}",
                )
            _reap(pid)
            time.sleep(LOOK_EVERY_S)
        _reap(pid)
        return True

    def delete_data(self) -> None:
        """Delete all data, logs and keys of this home, and the database's folder if it lies elsewhere.

        Of the home only what is the stack's own: someone may have chosen a folder that holds other things too.

        Raises `LocalStackError` while the stack runs.
        """
        if self.running():
            raise LocalStackError(f"The stack in {self.home.root} runs.", "Stop it first: thalweg down")
        outside = postgres.data_folder(self.home.data, account_for(os.geteuid()))
        for folder in (outside, *(self.home.root / name for name in OWN_FOLDERS)):
            if folder.exists():
                shutil.rmtree(folder)
        if self.home.root.exists() and not any(self.home.root.iterdir()):
            self.home.root.rmdir()


def open_stack(home: Path | None = None, environ: Mapping[str, str] | None = None) -> Stack:
    """The stack of a home (default: where the environment says), running or not."""
    env = os.environ if environ is None else environ
    return Stack(Home((home or default_home(env)).expanduser().resolve()))


def start(
    home: Path | None = None,
    *,
    only: Iterable[str] | None = None,
    apps: bool = False,
    usual_ports: bool = True,
    tied: bool = False,
    reporter: Reporter | None = None,
    environ: Mapping[str, str] | None = None,
) -> Stack:
    """Set up what is missing, start the stack of `home`, wait until all of it is ready, and return it.

    only: names of servers (None: all five). apps: also the bootstrap steps and our own processes. usual_ports:
    9092, 8080 and so on where they are free; False takes free ones throughout, right for tests. tied: the stack
    stops when the calling process is gone. environ: settings like THALWEG_KAFKA__BOOTSTRAP, which name a server
    that runs elsewhere. A stack that runs already is left as it is and waited for.

    Raises `StartError` naming what did not start (then nothing is left running) or another `LocalStackError`.
    """
    env = dict(os.environ if environ is None else environ)
    stack = open_stack(home, env)
    report = reporter or Silent()
    wanted = plan.make(env, only, with_apps=apps, usual_ports=usual_ports, tied_to=os.getpid() if tied else None)
    if stack.running():
        _wait(stack.home, None, report)
        return stack
    places = parts.prepare(plan.needed_parts(wanted), report, env)
    wanted = replace(wanted, parts={name: str(place) for name, place in places.items()})
    stack.home.make()
    wanted.save(stack.home.run / "plan.json")
    process = _launch(stack.home, env)
    try:
        _wait(stack.home, process, report)
    except BaseException:
        # A half-started stack would look running to the next `up`.
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
        raise
    return stack


def _launch(home: Home, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with home.log("supervisor").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.local.supervisor", str(home.root)],
            env={**env, "PYTHONPATH": _python_path(env)},
            cwd=home.run,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Its own session: Ctrl-C and a closed terminal end the command, not the stack.
            start_new_session=True,
        )


def _python_path(env: Mapping[str, str]) -> str:
    return os.pathsep.join([str(apps.code_root()), *filter(None, [env.get("PYTHONPATH")])])


def _wait(home: Home, process: subprocess.Popen[bytes] | None, report: Reporter) -> None:
    """Follow the state file until the stack is ready, telling `report` what is waited for.

    process: the supervisor, if this call started it.
    """
    until = time.monotonic() + START_TIMEOUT_S
    told: dict[str, str] = {}
    while True:
        # Taken: someone else started it between our look and now; then theirs is waited for.
        status = STATUS_TAKEN if process is None else process.poll()
        if status is not None and (status != STATUS_TAKEN or state.supervisor_pid(home) is None):
            raise _failure(home, "supervisor", f"the supervisor ended (status {status})")
        now = state.read(home)
        if now is not None and now["supervisor"]["pid"] == state.supervisor_pid(home):
            _tell(now, told, report)
            _raise_if_failed(home, now)
            if now["phase"] == state.Phase.READY:
                return
        if time.monotonic() > until:
            waiting = [name for name, seen in told.items() if seen not in {"ready", "external"}]
            name = waiting[0] if waiting else "supervisor"
            raise _failure(home, name, f"not ready after {START_TIMEOUT_S:.0f} s: {', '.join(waiting)}")
        time.sleep(LOOK_EVERY_S)


def _tell(now: state.StackState, told: dict[str, str], report: Reporter) -> None:
    for name, record in {**now["servers"], **now["steps"], **now["processes"]}.items():
        seen = record["state"]
        if told.get(name) == seen:
            continue
        told[name] = seen
        if seen == "starting":
            report.begin(name, seen)
        elif seen != "waiting":
            report.end(name, seen)


def _raise_if_failed(home: Home, now: state.StackState) -> None:
    records = {**now["servers"], **now["steps"], **now["processes"]}
    failed = [(name, record) for name, record in records.items() if record["state"] == "failed"]
    # One that did not start because of another comes second: name the cause.
    failed.sort(key=lambda pair: str(pair[1].get("reason", "")).startswith("not started"))
    for name, record in failed:
        raise _failure(
            home, name, f"{name} did not start: {record.get('reason', 'no reason given')}", record.get("log")
        )
    if now["phase"] == state.Phase.FAILED:
        raise _failure(home, "supervisor", "the supervisor failed")


def _failure(home: Home, name: str, what: str, log: str | None = None) -> StartError:
    file = Path(log) if log else home.log(name)
    text = tail(file)
    return StartError(name, what, f"The whole log: {file}\nThen: thalweg doctor", text)


def _reap(pid: int) -> None:
    """A supervisor that this very process started stays a zombie until it is waited for."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
