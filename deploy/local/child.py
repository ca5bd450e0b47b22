"""One child process: started so that it cannot outlive the supervisor, its output kept, its end noticed.

Before: a `server.Server`. After: `supervisor` decides whether it is started again.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress

from deploy.local.logs import CappedLog
from deploy.local.server import Server

PR_SET_PDEATHSIG = 1  # linux/prctl.h
# What a server of another make gets of our environment; our own processes get all of it.
PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "LOGNAME", "SSL_CERT_FILE", "SSL_CERT_DIR")


def tether(orphan_signal: int, libc: ctypes.CDLL) -> Callable[[], None]:
    """A function for the child, between fork and exec: the kernel sends `orphan_signal` when we are gone.

    The signal hangs on the *thread* that forked, so children must be started from the main thread (the event
    loop's), which lives as long as the process. If we died between fork and this call, the child ends at once.
    """
    parent = os.getpid()

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, orphan_signal, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return in_child


class Child:
    """A running process. Make one with `start`."""

    def __init__(self, process: asyncio.subprocess.Process, output: _Output) -> None:
        self._process = process
        self._output = output

    @classmethod
    async def start(cls, server: Server, log: CappedLog, environ: Mapping[str, str]) -> Child:
        """Start the process in a session of its own. Raises OSError if the program cannot be run."""
        inherited = environ if server.inherit_env else {k: environ[k] for k in PASSED_ON if k in environ}
        account = server.account
        # A pipe of our own: asyncio's would let `wait` hang while a process left behind holds its other end.
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        output = _Output(read_end, log)
        try:
            process = await asyncio.create_subprocess_exec(
                *server.command,
                env={**inherited, **server.env},
                cwd=server.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                # Runs after the change of account, which would undo it.
                preexec_fn=tether(server.orphan_signal, ctypes.CDLL(None)),
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        except BaseException:
            output.close()
            raise
        finally:
            os.close(write_end)
        return cls(process, output)

    @property
    def pid(self) -> int:
        """Process id, also that of its session."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is gone."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Its exit status (negative: the signal that ended it), once it is gone."""
        status = await self._process.wait()
        # What it started and left behind in its session holds ports, memory and the log's pipe.
        self._signal_session(signal.SIGKILL)
        self._output.close()
        return status

    async def stop(self, stop_signal: signal.Signals, deadline_s: float) -> None:
        """Ask it to end with `stop_signal`; kill it after `deadline_s`. Returns when it is gone."""
        with suppress(ProcessLookupError):
            self._process.send_signal(stop_signal)
        try:
            await asyncio.wait_for(self._process.wait(), deadline_s)
        except TimeoutError:
            self.kill()
            await self._process.wait()

    def kill(self) -> None:
        """End it and its session now."""
        self._signal_session(signal.SIGKILL)

    def _signal_session(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


class _Output:
    """Carries what comes out of a pipe into a log, from the event loop, until closed."""

    def __init__(self, read_end: int, log: CappedLog) -> None:
        self._read_end = read_end
        self._log = log
        os.set_blocking(read_end, False)
        asyncio.get_running_loop().add_reader(read_end, self._read)

    def close(self) -> None:
        """Take what is there still, and let the pipe go. May be called twice."""
        while self._read():
            pass
        self._let_go()

    def _read(self) -> bool:
        """Move one piece; False when there is nothing now, or nothing more."""
        if self._read_end < 0:
            return False
        try:
            data = os.read(self._read_end, 65_536)
        except BlockingIOError:
            return False
        if data:
            self._log.write(data)
            return True
        self._let_go()
        return False

    def _let_go(self) -> None:
        if self._read_end >= 0:
            asyncio.get_running_loop().remove_reader(self._read_end)
            os.close(self._read_end)
            self._read_end = -1
