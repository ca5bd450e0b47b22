"""The pinned releases, and their archives in the cache.

Before: `releases.txt`. After: `history.py` reads the documents in them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local import fetch
from deploy.local.install import sha256
from deploy.local.parts import cache_dir

PINNED = Path(__file__).with_name("releases.txt")


@dataclass(frozen=True)
class Release:
    """One source distribution, by its checksum."""

    project: str
    version: str
    file: str
    sha256: str


def pinned(listed: Path = PINNED) -> list[Release]:
    """Every release, project by project, each project's in the order of its versions."""
    lines = (line.strip() for line in listed.read_text(encoding="utf-8").splitlines())
    return [Release(*line.split()) for line in lines if line and not line.startswith("#")]


def fetched(releases: Sequence[Release], tell: Callable[[str], None]) -> list[Path]:
    """The archives, in the order of the releases; those the cache lacks (or holds damaged) are fetched.

    Raises SetupError if the package index has not every one, byte for byte.
    """
    folder = cache_dir() / "bench-releases"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [release for release in releases if not _whole(folder / release.file, release.sha256)]
    if missing:
        tell(f"fetching {len(missing)} of {len(releases)} source distributions into {folder}")
        _fetch(missing, folder, tell)
    return [folder / release.file for release in releases]


def _whole(file: Path, wanted: str) -> bool:
    return file.is_file() and sha256(file) == wanted


def _fetch(missing: Sequence[Release], folder: Path, tell: Callable[[str], None]) -> None:
    done = 0

    def on_line(line: str) -> None:
        nonlocal done
        done += line.startswith("done ")
        if done and done % 25 == 0:
            tell(f"{done} of {len(missing)} fetched")

    with tempfile.TemporaryDirectory() as work:
        listed = Path(work) / "wanted.txt"
        listed.write_text("".join(f"{r.project} {r.version} {r.file} {r.sha256}\n" for r in missing), encoding="utf-8")
        clients = fetch.Clients(os.environ, threading.Event())
        child = [sys.executable, str(Path(__file__).with_name("download.py")), str(listed), str(folder)]
        fetch.run(clients, child, "fetching the releases of the bench", on_line=on_line)
