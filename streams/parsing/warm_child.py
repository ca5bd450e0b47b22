"""One child process as the pool holds it: started warm, asked one file at a time, ended with all it started.

Before it: pool.py. After it: child.py, at the other end of the pipes, whose docstring gives the protocol.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import struct
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass
from pathlib import Path

from streams.parsing.result import ParsedText, ParseFailure, from_json

_MOST_ANSWER_BYTES = 1 << 30
_FOLDER_PREFIX = "thalweg-parse-"  # then the worker's process id
_ROOT = Path(__file__).resolve().parents[2]


class ParserUnavailable(Exception):
    """No parsing process can be had. Says nothing of any file: ask again later."""


class ChildDied(Exception):
    """The child ended, or spoke nonsense, while it was asked."""


@dataclass(frozen=True, slots=True)
class ChildState:
    """What a child said of itself when it was ready."""

    pid: int
    warm_s: float
    rss_bytes: int
    address_space_bytes: int
    network: str
    """`namespace`, or `hook` where the kernel or the container forbids namespaces."""


class WarmChild:
    """One child process and the pipes to it."""

    def __init__(self, process: Process, folder: Path) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("a child without pipes")
        self._process, self._folder = process, folder
        self._requests, self._answers = process.stdin, process.stdout
        self._ended = False
        self.state: ChildState

    @classmethod
    async def start(cls, memory_bytes: int, max_text_bytes: int, warm_timeout_s: float) -> "WarmChild":
        """A warm child.

        Raises:
            ParserUnavailable: it did not get ready.
        """
        _remove_orphaned_folders()
        folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}{os.getpid()}-"))
        options = {"parent": os.getpid(), "memory_bytes": memory_bytes, "max_text_bytes": max_text_bytes}
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "streams.parsing.child", json.dumps(options)),
                stdin=PIPE,
                stdout=PIPE,
                stderr=DEVNULL,
                cwd=folder,
                env=_environment(folder),
                start_new_session=True,
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        child = cls(process, folder)
        try:
            async with asyncio.timeout(warm_timeout_s):
                child.state = _state(process.pid, await child._receive())
        except BaseException as failed:
            await child.end()
            if isinstance(failed, TimeoutError):
                raise ParserUnavailable(f"the parsers did not load within {warm_timeout_s:g} s") from failed
            if isinstance(failed, ChildDied):
                raise ParserUnavailable("the parsing process ended while it loaded the parsers") from failed
            raise
        return child

    async def ask(self, request: dict[str, object], timeout_s: float) -> ParsedText | ParseFailure:
        """Raises: TimeoutError, ChildDied."""
        body = json.dumps(request).encode()
        async with asyncio.timeout(timeout_s):
            try:
                self._requests.write(struct.pack(">I", len(body)) + body)
                await self._requests.drain()
            except (BrokenPipeError, ConnectionResetError) as gone:
                raise ChildDied from gone
            answer = await self._receive()
        try:
            # Tens of megabytes of JSON take a second: the loop has heartbeats to send meanwhile.
            return await asyncio.to_thread(from_json, answer) if len(answer) > 1 << 20 else from_json(answer)
        except ValueError:
            return ParseFailure("crashed", "the parser gave no readable answer for the file")

    async def end(self) -> None:
        """Kill the whole process group and reap it; once, for its number may later be another's."""
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _receive(self) -> bytes:
        try:
            (size,) = struct.unpack(">I", await self._answers.readexactly(4))
            if size > _MOST_ANSWER_BYTES:
                raise ChildDied
            return await self._answers.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionResetError) as gone:
            raise ChildDied from gone


def _remove_orphaned_folders() -> None:
    """Remove what workers left that were killed: they could not do it themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        worker = folder.name.removeprefix(_FOLDER_PREFIX).split("-")[0]
        if worker.isdigit() and not Path(f"/proc/{worker}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _state(pid: int, first_words: bytes) -> ChildState:
    said = json.loads(first_words)
    if "ready" not in said:
        raise ParserUnavailable(f"the parsers cannot be loaded: {said.get('unavailable', 'no reason given')}")
    return ChildState(pid=pid, **said["ready"])


def _environment(folder: Path) -> dict[str, str]:
    """All that a child knows of the outside: no secret, no address, one thread per library."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(_ROOT),
        "PYTHONHASHSEED": "0",  # the same file gives the same text in every process
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "DO_NOT_TRACK": "1",  # unstructured reports its use otherwise
        "UNSTRUCTURED_DISABLE_NOTICE": "1",
    }
