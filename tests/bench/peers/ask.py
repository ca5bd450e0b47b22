"""The peers' environment, and their scripts run in it.

Before: `requirements.txt`. After: `../edits/measure.py` and `table.py` read what the scripts found.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local import fetch
from deploy.local.errors import SetupError
from deploy.local.install import install
from deploy.local.parts import cache_dir
from tests.bench.peers.wire import FOUND

HERE = Path(__file__).parent
LOCKED = HERE / "requirements.txt"
SCRIPTS = ("cocoindex", "langchain", "llamaindex", "pathway")
PACKAGES = ("cocoindex", "langchain-core", "langchain-classic", "llama-index-core", "pathway")
LONGEST_S = 1800.0


@dataclass(frozen=True)
class Peers:
    """The installed peers."""

    python: Path
    scripts: tuple[str, ...] = SCRIPTS

    def ask(self, name: str, *arguments: str) -> Any:
        """What a script answers. Raises SetupError with the end of its output if it fails or takes over 30 minutes."""
        command = [str(self.python), str(HERE / f"{name}_peer.py"), *arguments]
        # Nothing of ours may be found there by chance, and no proxy or key is any business of theirs.
        environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
        try:
            ended = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=LONGEST_S
            )
        except subprocess.TimeoutExpired as error:
            raise SetupError(f"The bench of {name} was not done after {LONGEST_S:.0f} s.") from error
        answers = [line for line in ended.stdout.splitlines() if line.startswith(FOUND)]
        if ended.returncode or not answers:
            tail = "\n  ".join((ended.stdout + ended.stderr).splitlines()[-15:])
            raise SetupError(f"The bench of {name} failed with status {ended.returncode}.\n  {tail}")
        return json.loads(answers[-1].removeprefix(FOUND))


def versions() -> dict[str, str]:
    """The locked version of each peer."""
    pins = dict(
        line.split(" ")[0].split("==")
        for line in LOCKED.read_text(encoding="utf-8").splitlines()
        if "==" in line.split(" ")[0]
    )
    return {name: pins[name] for name in PACKAGES}


def installed(tell: Callable[[str], None]) -> Peers:
    """The environment of requirements.txt in the cache, made now (1.6 GB, a minute on a fast line) if it is not there.

    Raises SetupError if a package cannot be had.
    """
    name = f"bench-peers-{hashlib.sha256(LOCKED.read_bytes()).hexdigest()[:10]}"

    def make(folder: Path) -> None:
        tell("installing the peers into an environment of their own (1.6 GB, once)")
        clients = fetch.Clients(os.environ, threading.Event())
        uv = str(Path(sys.executable).with_name("uv"))
        fetch.run(
            clients, [uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, str(folder / "venv")], "venv"
        )
        python = str(folder / "venv" / "bin" / "python")
        # Copied, not linked: nltk refuses files that have a second name.
        how = ["--system-certs", "--quiet", "--link-mode", "copy", "--require-hashes", "--python", python]
        fetch.run(clients, [uv, "pip", "install", *how, "--requirement", str(LOCKED)], "installing the peers")

    folder = cache_dir() / name
    install(folder, make, lambda: tell("waiting for another bench that installs the peers"))
    return Peers(folder / "venv" / "bin" / "python")
