"""What the running stack is, as one file: `<home>/run/stack.json`, mode 0600 for it holds addresses with passwords.

Before: `supervisor` writes it on each change. After: `thalweg status`, `runtime.settings` (its section `settings`)
and `stack.Stack` read it. A reader sees a whole file, old or new.
"""

from __future__ import annotations

import fcntl
import json
import os
from enum import StrEnum
from typing import Any, Literal, NotRequired, TypedDict

from deploy.local.places import Home, replace_file

FORMAT = 1


class Phase(StrEnum):
    """How far the stack as a whole is."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


ProcessState = Literal["waiting", "starting", "ready", "stopped", "external", "failed"]


class ProcessRecord(TypedDict):
    """One server or process of ours. Servers add their address: `bootstrap`, `url`, `grpc`, `dsn`, ..."""

    name: str
    state: ProcessState
    pid: int | None
    # Seconds since the epoch at which the kernel started it: tells it from a later process with the same id.
    born: float | None
    restarts: int
    log: str
    reason: NotRequired[str]


class StackState(TypedDict):
    """The whole file."""

    format: int
    home: str
    phase: Phase
    supervisor: dict[str, Any]
    servers: dict[str, dict[str, Any]]
    steps: dict[str, dict[str, Any]]
    processes: dict[str, dict[str, Any]]
    apis: dict[str, str]
    weaviate_api_key_file: str
    demo_key_file: str
    settings: dict[str, dict[str, Any]]


def read(home: Home) -> StackState | None:
    """The last written state, of a stack that may be long gone; None if there never was one."""
    try:
        found: StackState = json.loads(home.state_file.read_text())
    except (OSError, ValueError):
        return None
    return found if found.get("format") == FORMAT else None


def current(home: Home) -> StackState:
    """What is now: the last written state, corrected if its supervisor is gone; empty if there never was a stack."""
    found = read(home)
    if found is None:
        return StackState(
            format=FORMAT, home=str(home.root), phase=Phase.STOPPED, supervisor={"pid": None}, servers={}, steps={},
            processes={}, apis={}, weaviate_api_key_file=str(home.weaviate_key_file),
            demo_key_file=str(home.demo_key_file), settings={},
        )  # fmt: skip
    if found["supervisor"]["pid"] == supervisor_pid(home):
        return found
    for record in (*found["servers"].values(), *found["processes"].values()):
        if record["state"] != "external":
            record |= {"state": "stopped", "pid": None, "born": None}
    found["phase"] = Phase.STOPPED
    return found


def write(home: Home, state: StackState) -> None:
    """Replace the file."""
    replace_file(home.state_file, json.dumps(state, indent=2, default=str) + "\n")


def supervisor_pid(home: Home) -> int | None:
    """The running supervisor's process id, None if none runs for this home.

    Asked by the lock it holds, so a stale file or a reused process id is no answer.
    """
    try:
        descriptor = os.open(home.supervisor_lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).decode().strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None
