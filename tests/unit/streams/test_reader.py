"""The reader around Faust: what it says before it has started, and when it dies."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import faust
from faust.types import TP

from streams.adapters.runner import Assignment

_DIES = """
import faust
from streams.adapters.runner import run

class App(faust.App):
    async def on_first_start(self):
        raise RuntimeError("fenced")

run(App("t", broker="kafka://127.0.0.1:1", datadir={folder!r}, store="memory://", web_enabled=False))
"""


def test_who_asks_for_the_partitions_does_not_make_the_consumer() -> None:
    """Faust binds its consumer to the event loop of whoever touches it first: a probe's thread must not."""
    app = faust.App("t", broker="kafka://127.0.0.1:1", store="memory://")
    assignment = Assignment()
    assignment.follow(app)
    assert assignment.places == frozenset()
    assert app._consumer is None

    asyncio.run(app.on_partitions_assigned.send({TP("documents", 2)}))
    assert assignment.places == {("documents", 2)}
    asyncio.run(app.on_partitions_revoked.send({TP("documents", 2)}))
    assert assignment.places == frozenset()


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
