"""Finds the programs that set-up and servers need: Java, Maven, Go, PostgreSQL.

Before: nothing. After: `parts` falls back to a package where something is missing, or says what to install.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from deploy.local.errors import SetupError

JAVA_AT_LEAST = 21  # the registry's need; Kafka would do with 17
POSTGRES_AT_LEAST = 14
GO_AT_LEAST = (1, 25)  # older ones cannot read the Weaviate module's go.mod without fetching a toolchain
ASK_TIMEOUT_S = 30.0


def java_version(java: Path) -> int | None:
    """The feature version (17, 21, ...) that `java -version` tells, None if it does not run."""
    text = _output([str(java), "-version"])
    match = re.search(r'version "(\d+)', text or "")
    return int(match[1]) if match else None


def find_java(environ: Mapping[str, str], jvm_root: Path = Path("/usr/lib/jvm")) -> Path | None:
    """A `java` of at least `JAVA_AT_LEAST`, from JAVA_HOME, PATH or the system's JVMs, in this order."""

    def candidates() -> Iterator[Path]:
        if home := environ.get("JAVA_HOME"):
            yield Path(home) / "bin" / "java"
        if on_path := shutil.which("java", path=environ.get("PATH")):
            yield Path(on_path)
        yield from sorted(jvm_root.glob("*/bin/java"), reverse=True)

    for java in _distinct(candidates()):
        version = java_version(java) if java.is_file() else None
        if version is not None and version >= JAVA_AT_LEAST:
            return java.resolve()
    return None


def postgres_version(folder: Path) -> int | None:
    """The major version of the `postgres` in `folder`, None if there is none that runs beside its `initdb`."""
    if _output([str(folder / "initdb"), "--version"]) is None:
        return None
    match = re.search(r"\) (\d+)", _output([str(folder / "postgres"), "--version"]) or "")
    return int(match[1]) if match else None


def find_postgres(environ: Mapping[str, str], debian_root: Path = Path("/usr/lib/postgresql")) -> Path | None:
    """A folder holding `postgres` and `initdb` of at least `POSTGRES_AT_LEAST`: PATH, pg_config, Debian's."""

    def candidates() -> Iterator[Path]:
        if on_path := shutil.which("postgres", path=environ.get("PATH")):
            yield Path(on_path).resolve().parent
        pg_config = shutil.which("pg_config", path=environ.get("PATH"))
        if pg_config and (answer := _output([pg_config, "--bindir"])):
            yield Path(answer.strip())
        yield from sorted(debian_root.glob("*/bin"), key=lambda path: path.parent.name.zfill(4), reverse=True)

    for folder in _distinct(candidates()):
        version = postgres_version(folder)
        if version is not None and version >= POSTGRES_AT_LEAST:
            return folder.resolve()
    return None


def find_go(environ: Mapping[str, str]) -> Path | None:
    """A `go` of at least `GO_AT_LEAST` on PATH or in the place its own installer uses."""
    for candidate in (shutil.which("go", path=environ.get("PATH")), "/usr/local/go/bin/go"):
        if candidate is None or not Path(candidate).is_file():
            continue
        match = re.search(r"go(\d+)\.(\d+)", _output([candidate, "version"]) or "")
        if match and (int(match[1]), int(match[2])) >= GO_AT_LEAST:
            return Path(candidate)
    return None


def find_maven(environ: Mapping[str, str]) -> Path:
    """`mvn` on PATH; raises `SetupError` with the line that installs it."""
    found = shutil.which("mvn", path=environ.get("PATH"))
    if found is None:
        raise SetupError(
            "Maven (`mvn`) is not on PATH; the Java parts (Kafka, Connect, registry) are fetched with it.",
            "On Debian or Ubuntu, as root: apt-get install --no-install-recommends maven",
        )
    return Path(found)


def _distinct(paths: Iterable[Path]) -> Iterator[Path]:
    seen: set[str] = set()
    for path in paths:
        real = os.path.realpath(path)
        if real not in seen:
            seen.add(real)
            yield path


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout + done.stderr
