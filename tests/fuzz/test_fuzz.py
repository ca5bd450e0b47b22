"""A short look at each target, from the same seeds each time; a planted mistake shows that mistakes are found."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNS = 20_000
"""Of each: seconds. `python -m tests.fuzz TARGET` goes on for as long as one likes."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="atheris has wheels for Linux on x86-64 only"
    ),
]


def fuzzed(target: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What came of RUNS runs; inputs that break the target are in the folder."""
    # A machine in haste may stop a process for a second; what hangs, hangs for longer.
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", target, "--runs", str(RUNS), "--seed", "1", "--timeout", "10"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.timeout(400)
@pytest.mark.parametrize("target", ["records", "chunks", "filters", "personal"])
def test_nothing_is_found(target: str, tmp_path: Path) -> None:
    done = fuzzed(target, tmp_path)

    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert f"Done {RUNS} runs" in done.stderr
    assert list(tmp_path.iterdir()) == []
    covered = re.findall(r"cov: (\d+)", done.stderr)
    assert int(covered[-1]) > int(covered[0]), "what was tried came further than what it began with"


def test_a_planted_mistake_is_found(tmp_path: Path) -> None:
    done = fuzzed("planted", tmp_path)

    assert done.returncode != 0
    assert "AssertionError: planted" in done.stdout + done.stderr
    (crash,) = tmp_path.iterdir()
    assert all(0x74 <= byte <= 0x7A for byte in crash.read_bytes()[:2])
