"""The reader around Faust: what it says before it has started, and when it dies."""

from __future__ import annotations

import subprocess
import sys

import faust

from streams.adapters.runner import assigned

_DIES = """
import faust
from streams.adapters.runner import run

class App(faust.App):
    async def on_first_start(self):
        raise RuntimeError("fenced")

run(App("t", broker="kafka://127.0.0.1:1", datadir={folder!r}, store="memory://", web_enabled=False))
"""


def test_a_reader_that_has_not_started_reads_no_partition() -> None:
    """A probe that asks early gets an answer, not an error."""
    assert assigned(faust.App("t", broker="kafka://127.0.0.1:1", store="memory://")) == frozenset()


def test_a_reader_that_dies_says_why(tmp_path: object) -> None:
    """Faust ends a crashed worker without a word on its cause."""
    done = subprocess.run(
        [sys.executable, "-c", _DIES.format(folder=str(tmp_path))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "reader_crashed" in done.stdout
    assert "RuntimeError: fenced" in done.stdout
