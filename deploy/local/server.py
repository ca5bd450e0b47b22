"""What one process of the stack is, as data: the shape that `kafka` to `postgres` and `apps` fill in.

Before: `parts`, `places` and `ports`. After: `supervisor` starts it, asks it and stops it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.account import Account
from deploy.local.places import Home


@dataclass(frozen=True)
class Context:
    """What a server's description is made from.

    parts: name to place, from `parts.prepare`. ports: see `ports.DEFAULTS`. external: server name to the address
    of one that runs elsewhere, as the user gave it. lasting: the stack will be started again, so what shortens later
    starts is worth its time.
    """

    home: Home
    parts: Mapping[str, Path]
    ports: Mapping[str, int]
    external: Mapping[str, str]
    lasting: bool = True


@dataclass(frozen=True)
class Server:
    """One process and all there is to know about running it.

    after: names of those that must be ready before it starts. files: configuration, written before each start.
    first_run: makes its data folder, called before each start, must be cheap when done already. probe: asks by
    its own protocol whether it serves; returns, or raises `NotReadyError`; must not take over a few seconds.
    address: what `status` shows of it. settings: what our own processes are told (section to values).
    folder: where it runs. scratch: its folder for temporary files, emptied before each start.
    stop_s: how long after `stop_signal` before it is killed. ready_s: how long its first start may take.
    """

    name: str
    command: tuple[str, ...]
    probe: Callable[[], None]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)
    first_run: Callable[[], None] | None = None
    address: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    account: Account | None = None
    folder: Path | None = None
    scratch: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    # Sent by the kernel when the supervisor is gone, however it went.
    orphan_signal: signal.Signals = signal.SIGKILL
    stop_s: float = 20.0
    ready_s: float = 120.0
    inherit_env: bool = False


def properties(values: Mapping[str, object]) -> str:
    """Java's properties format, one line a setting. Our values hold no line breaks or backslashes."""
    return "".join(f"{key}={value}\n" for key, value in values.items())
