"""One mutant: a copy of the tree with one text replaced, and the tests that must notice.

Before this: `mutants.yaml`, the defects as data. After this: `__main__.py` prints the table. The checkout itself is
never touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

ROOT = Path(__file__).resolve().parents[2]
HISTORIES = 3_000
"""So many histories must be enough; most mutants die within the first hundred."""
_LIMIT_S = 240


@dataclass(frozen=True)
class Mutant:
    """A defect: `old`, which occurs once in `file`, becomes `new`.

    harm: what would be lost, doubled or shown. tests: that notice it where the simulation cannot (an adapter's code).
    """

    name: str
    file: str
    old: str
    new: str
    harm: str
    tests: tuple[str, ...] = ()


def mutants() -> list[Mutant]:
    """All of them, as `mutants.yaml` has them."""
    raw = yaml.safe_load((Path(__file__).parent / "mutants.yaml").read_text("utf-8"))
    return [Mutant(**{**item, "tests": tuple(item.get("tests", ()))}) for item in raw]


@dataclass(frozen=True)
class Tried:
    """What became of a mutant. by: what noticed it, empty if nothing did."""

    mutant: str
    by: str
    detail: str
    seconds: float


class Unfit(Exception):
    """The mutant, or the tree without it, is no ground for a verdict; the text says why."""


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the tree's files as git lists them, with changes not committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    with TemporaryDirectory(prefix="mutants-") as folder:
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / name, target)
        yield Path(folder)


def fits(mutant: Mutant, tree: Path = ROOT) -> str:
    """Why the mutant cannot be applied, or nothing."""
    count = (tree / mutant.file).read_text("utf-8").count(mutant.old)
    return "" if count == 1 else f"{mutant.name}: its old text is in {mutant.file} {count} times, not once"


def attempt(mutant: Mutant, tree: Path) -> Tried:
    """Apply the mutant to a copy, ask the tests, take it back. Raises Unfit."""
    if wrong := fits(mutant, tree):
        raise Unfit(wrong)
    path = tree / mutant.file
    text = path.read_text("utf-8")
    began = time.monotonic()
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    try:
        by, detail = notice(tree, mutant.tests)
    finally:
        path.write_text(text, "utf-8")
    return Tried(mutant.name, by, detail, time.monotonic() - began)


def notice(tree: Path, tests: tuple[str, ...]) -> tuple[str, str]:
    """What notices that this tree is broken, and what it says; two empty texts if nothing does. Raises Unfit."""
    if not tests:
        code, said = _run(tree, "-m", "tests.simulation", "--histories", str(HISTORIES), "--as-found")
        found = [line for line in said.splitlines() if line.startswith("seed ")]
        if code == 0:
            return "", ""
        if not found:
            raise Unfit(f"the simulation did not run: {said[-800:]}")
        return "simulation", found[0]
    code, said = _run(tree, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests)
    if code == 0:
        return "", ""
    failed = [line for line in said.splitlines() if line.startswith("FAILED")]
    if code != 1 or not failed:
        raise Unfit(f"the tests did not run: {said[-800:]}")
    return tests[0].rpartition("/")[2], failed[0]


def _run(tree: Path, *command: str) -> tuple[int, str]:
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=tree, env=environment, timeout=_LIMIT_S,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as expired:
        raise Unfit(f"no end after {_LIMIT_S} s: {' '.join(command)}") from expired
    return done.returncode, done.stdout
