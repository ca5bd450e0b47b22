"""One process is kept running. Small processes of Python's own, no servers."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deploy.local.errors import NotReadyError
from deploy.local.keeper import FIRST_TRIES, Keeper, delay
from deploy.local.logs import CappedLog, tail
from deploy.local.server import Server

DEADLINE_S = 20.0
SERVES = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); print('serving', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SERVES}"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); {SERVES}"


def server(code: str, sign: Path, *, stop_s: float = 10.0, ready_s: float = DEADLINE_S) -> Server:
    def probe() -> None:
        if not sign.exists():
            raise NotReadyError("not yet")

    return Server("it", (sys.executable, "-c", code, str(sign)), probe, stop_s=stop_s, ready_s=ready_s)


async def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < ends, "it did not come true in time"
        await asyncio.sleep(0.02)


def keep(made: Server, folder: Path) -> Keeper:
    return Keeper(made, CappedLog(folder / "it.log"), dict(os.environ), lambda: None)


async def test_a_killed_process_should_be_back(tmp_path: Path) -> None:
    keeper = keep(server(SERVES, tmp_path / "sign"), tmp_path)
    keeper.begin([])
    assert await keeper.first_outcome()
    first = keeper.record()["pid"]
    os.kill(first, signal.SIGKILL)
    await until(lambda: keeper.record()["state"] == "ready" and keeper.record()["pid"] not in {None, first})
    assert keeper.record()["restarts"] == 1
    assert "ended with status -9" in tail(tmp_path / "it.log")
    await keeper.stop()
    assert keeper.record()["state"] == "stopped"
    assert not psutil.pid_exists(first)


async def test_one_that_keeps_dying_at_the_start_should_fail_with_its_status(tmp_path: Path) -> None:
    keeper = keep(server("print('no config'); raise SystemExit(7)", tmp_path / "sign"), tmp_path)
    keeper.begin([])
    assert not await keeper.first_outcome()
    record = keeper.record()
    assert record["state"] == "failed"
    assert record["reason"] == "ended with status 7"
    assert tail(tmp_path / "it.log").count("no config") == FIRST_TRIES
    await keeper.stop()


async def test_one_that_never_serves_should_fail_at_its_deadline_with_what_it_last_said(tmp_path: Path) -> None:
    keeper = keep(server("import time; time.sleep(600)", tmp_path / "sign", ready_s=0.5), tmp_path)
    keeper.begin([])
    assert not await keeper.first_outcome()
    assert keeper.record()["reason"] == "not ready after 0 s: not yet"
    assert keeper.record()["pid"] is None
    await keeper.stop()


async def test_what_waits_for_a_failed_one_should_not_start(tmp_path: Path) -> None:
    failing = keep(server("raise SystemExit(1)", tmp_path / "a"), tmp_path)
    waiting = keep(server(SERVES, tmp_path / "b"), tmp_path)
    failing.begin([])
    waiting.begin([failing])
    assert not await waiting.first_outcome()
    assert waiting.record()["reason"] == "not started, because it did not start"
    assert not (tmp_path / "b").exists()


async def test_one_that_ignores_the_stop_signal_should_be_killed_at_its_deadline(tmp_path: Path) -> None:
    keeper = keep(server(STUBBORN, tmp_path / "sign", stop_s=0.3), tmp_path)
    keeper.begin([])
    assert await keeper.first_outcome()
    pid = keeper.record()["pid"]
    await keeper.stop()
    assert not psutil.pid_exists(pid)


async def test_what_a_killed_process_left_behind_should_be_ended_too(tmp_path: Path) -> None:
    keeper = keep(server(PARENT, tmp_path / "sign"), tmp_path)
    keeper.begin([])
    assert await keeper.first_outcome()
    process = psutil.Process(keeper.record()["pid"])
    children = process.children()
    assert len(children) == 1
    process.kill()
    await until(lambda: not children[0].is_running() or children[0].status() == psutil.STATUS_ZOMBIE)
    await keeper.stop()


@pytest.mark.parametrize(("deaths", "longest"), [(1, 0.2), (2, 0.4), (5, 3.2), (7, 10.0), (60, 10.0)])
def test_the_wait_should_double_up_to_ten_seconds_and_be_jittered(deaths: int, longest: float) -> None:
    assert delay(deaths, lambda _low, high: high) == pytest.approx(longest)
    assert delay(deaths, lambda low, _high: low) == pytest.approx(longest / 2)
