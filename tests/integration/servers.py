"""One real server as a child of the test, run exactly as the local stack runs it, to be killed and started at will."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from deploy.local import kafka, parts, ports, weaviate
from deploy.local.errors import NotReadyError
from deploy.local.places import Home
from deploy.local.server import Context, Server

_READY_S = 120.0
_DESCRIBED = {"kafka": kafka.server, "weaviate": weaviate.server}


class RealServer:
    """kafka or weaviate, in a folder of its own, on free ports."""

    def __init__(self, name: str, folder: Path) -> None:
        self.home = Home(folder)
        self.home.make()
        self.home.logs.mkdir(parents=True, exist_ok=True)
        self._claims = ports.Claims()
        names = [port for port in ports.DEFAULTS if port.startswith(name)]
        chosen = ports.choose(names, {}, defaults={}, claim=self._claims.claim)
        made = parts.prepare(parts.parts_of([name]))
        self.described: Server = _DESCRIBED[name](Context(self.home, made, chosen, {}))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers its own protocol; fails with the end of its log."""
        described, log = self.described, self.home.log(self.described.name)
        if described.scratch is not None:
            described.scratch.mkdir(parents=True, exist_ok=True)
        for file, text in described.files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        if described.first_run is not None:
            described.first_run()
        environment = {**os.environ, **described.env} if described.inherit_env else dict(described.env)
        with log.open("ab") as output:
            self._process = subprocess.Popen(described.command, env=environment, stdout=output, stderr=output)
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                described.probe()
            except NotReadyError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    tail = log.read_text(errors="replace")[-2000:]
                    raise AssertionError(f"{described.name} did not get ready: {error}\n{tail}") from error
                time.sleep(0.2)
            else:
                return

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """Stop it where it stands: connections stay open, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it in good order, and give its ports back."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        self._claims.release()
