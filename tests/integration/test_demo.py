"""`thalweg demo` on the real stack: every claim it shows is checked by the demo itself; here, that it says so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demo import corpus
from deploy.local.apps import code_root
from deploy.local.stack import Stack

pytestmark = [pytest.mark.real, pytest.mark.timeout(420)]


def demo(stack: Stack, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command, its output no terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("THALWEG_")}
    return subprocess.run(
        [sys.executable, "-m", "thalweg", "demo"],
        env={**kept, **stack.environment(), "PYTHONPATH": str(code_root())},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_demo_shows_live_changes_and_a_cited_answer_and_can_be_run_again(stack: Stack, tmp_path: Path) -> None:
    first = demo(stack, tmp_path)

    assert first.returncode == 0, first.stdout + first.stderr
    rows, files = len(corpus.rows()), len(corpus.file_documents())
    assert f"captured {rows}/{rows}, parsed {files}/{files}, indexed {rows + files}/{rows + files}" in first.stdout
    assert re.search(r"ok the new text is found \d+\.\d\d s after COMMIT, the old text is not found", first.stdout)
    assert re.search(r"ok it is found no more \d+\.\d\d s after COMMIT", first.stdout)
    assert re.search(r"\[1\] articles:topic\.with, characters \d+-\d+: “.+”", first.stdout)
    assert re.search(r"ok p50 \d+\.\d\d s, p95 \d+\.\d\d s, .* none missed", first.stdout)
    state = stack.state()
    for address in (*state["apis"].values(), state["demo_key_file"], "down"):
        assert address in first.stdout

    second = demo(stack, tmp_path)

    assert second.returncode == 0, second.stdout + second.stderr
    # Only the two rows that the first run changed are put back.
    assert re.search(r"ok 2 documents became searchable", second.stdout)
    assert second.stdout.count("   ok ") == first.stdout.count("   ok ")
