"""The process that reads files: `python -m streams.parsing.child OPTIONS`, started by pool.py and by nobody else.

It loads the parsers once (seconds), then forks for every file. The fork reads one file under its limits and ends;
so no file can touch what a later one sees, a hang or a crash costs a fork of 30 ms and no warm-up, and memory never
grows. This process itself never looks into a file: it waits, kills at the deadline, and passes the answer on.

Protocol, both ways: a 4-byte big-endian length, then so many bytes of JSON. First the child sends `Ready`
({"ready": {...}} or {"unavailable": why}); then each request ({"path", "kind", "deadline_s"}) is answered by one
`result.to_json`. End of input ends the child.
"""

import gc
import json
import os
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.filetypes import Kind
from streams.parsing import sandbox
from streams.parsing.result import ParseFailure, to_json

_CHUNK = 1 << 20
_JSON_OVERHEAD = 67_108_864  # bytes of an answer besides its text: blocks, escapes
_TIMED_OUT = ParseFailure("timeout", "the file took longer to read than one file may")
_OUT_OF_MEMORY = ParseFailure("memory", "reading the file needs more memory than one file may take")


@dataclass(frozen=True, slots=True)
class Options:
    """What the pool tells the child when it starts it."""

    parent: int
    memory_bytes: int
    max_text_bytes: int


def main() -> None:
    """Serve until the input ends."""
    options = Options(**json.loads(sys.argv[1]))
    sandbox.die_with_parent(options.parent)
    requests, answers = _private_pipes()
    started = time.monotonic()
    try:
        barrier = sandbox.leave_network()
        parse = _load()
        gc.collect()
        gc.freeze()  # collections in a fork would otherwise touch, and so copy, every page of the libraries
        ready = {"ready": {"warm_s": time.monotonic() - started, "network": barrier} | _own_size()}
    except Exception as error:  # noqa: BLE001 - the pool tells it to whoever runs the worker
        _send(answers, json.dumps({"unavailable": f"{type(error).__name__}: {error}"}).encode())
        return
    _send(answers, json.dumps(ready).encode())
    while (request := _receive(requests)) is not None:
        _send(answers, _one_file(parse, json.loads(request), options, (requests, answers)))


def _load() -> Any:
    """Import every parser and load the models now, so that forks find them ready."""
    import openpyxl  # noqa: F401
    import pypdfium2  # noqa: F401
    import unstructured.partition.docx
    import unstructured.partition.email
    import unstructured.partition.html
    import unstructured.partition.md
    import unstructured.partition.pptx
    import unstructured.partition.text  # noqa: F401

    from streams.parsing.partition import parse_file
    from streams.parsing.sentences import load_models

    models = load_models(Path.cwd())

    def parse(path: Path, kind: Kind, max_text_bytes: int) -> bytes:
        return to_json(parse_file(path, kind, models, max_text_bytes=max_text_bytes))

    return parse


def _one_file(parse: Any, request: dict[str, Any], options: Options, private: tuple[int, int]) -> bytes:
    """Have a fork read the file; whatever becomes of the fork, this is an answer."""
    deadline = time.monotonic() + float(request["deadline_s"])
    folder = tempfile.mkdtemp(dir=Path.cwd())
    read_end, write_end = os.pipe()
    me = os.getpid()
    fork = os.fork()
    if fork == 0:
        os.close(read_end)
        for descriptor in private:
            os.close(descriptor)
        _in_fork(parse, request, options, folder=Path(folder), out=write_end, parent=me)
    os.close(write_end)
    try:
        answer, failure = _collect(read_end, deadline, options.max_text_bytes * 2 + _JSON_OVERHEAD)
        status, used = _end(fork, deadline if failure is None else 0)
    finally:
        os.close(read_end)
        shutil.rmtree(folder, ignore_errors=True)
    if failure is None:
        failure = _verdict(status, used, options)
    return to_json(failure) if failure is not None else answer


def _in_fork(parse: Any, request: dict[str, Any], options: Options, *, folder: Path, out: int, parent: int) -> None:
    code = 1
    try:
        sandbox.die_with_parent(parent)
        os.chdir(folder)
        tempfile.tempdir = str(folder)
        sandbox.limit_for_one_file(memory_bytes=options.memory_bytes, cpu_s=float(request["deadline_s"]))
        try:
            answer = parse(Path(request["path"]), Kind(request["kind"]), options.max_text_bytes)
        except MemoryError:
            answer = to_json(_OUT_OF_MEMORY)
        view = memoryview(answer)
        while view:
            view = view[os.write(out, view) :]
        code = 0
    finally:
        os._exit(code)  # never back into the parent's loop, and none of its clean-up twice


def _collect(read_end: int, deadline: float, limit: int) -> tuple[bytes, ParseFailure | None]:
    """All that the fork writes until it closes its end, or why it was not waited for any longer."""
    parts: list[bytes] = []
    size = 0
    poll = select.poll()
    poll.register(read_end, select.POLLIN | select.POLLHUP)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return b"", _TIMED_OUT
        part = os.read(read_end, _CHUNK)
        if not part:
            return b"".join(parts), None
        parts.append(part)
        size += len(part)
        if size > limit:
            return b"", ParseFailure("too_large", "the text is larger than one document may be")


def _end(fork: int, deadline: float) -> tuple[int, resource.struct_rusage]:
    """Wait for the fork until the deadline, kill it then, and reap it."""
    pause = 0.0005
    while True:
        pid, status, used = os.wait4(fork, os.WNOHANG)
        if pid == fork:
            return status, used
        if time.monotonic() >= deadline:
            os.kill(fork, signal.SIGKILL)
            _, status, used = os.wait4(fork, 0)
            return status, used
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def _verdict(status: int, used: resource.struct_rusage, options: Options) -> ParseFailure | None:
    """What the way a fork ended says of its file; None when it ended well."""
    if status == 0:
        return None
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if ended_by == signal.SIGXCPU:
        return _TIMED_OUT
    # Native code that gets no memory ends by a signal: one that had taken most of its share, by that.
    if used.ru_maxrss * 1024 > options.memory_bytes * 0.7:
        return _OUT_OF_MEMORY
    how = f"signal {signal.Signals(ended_by).name}" if ended_by else f"exit {os.waitstatus_to_exitcode(status)}"
    return ParseFailure("crashed", f"the parser did not survive the file ({how})")


def _private_pipes() -> tuple[int, int]:
    """(requests, answers) where no library finds them: what a parser prints must not end up in the protocol."""
    requests, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    return requests, answers


def _own_size() -> dict[str, int]:
    mapped, resident = Path("/proc/self/statm").read_text().split()[:2]  # in pages, proc(5)
    page = resource.getpagesize()
    return {"address_space_bytes": int(mapped) * page, "rss_bytes": int(resident) * page}


def _send(descriptor: int, body: bytes) -> None:
    for part in (struct.pack(">I", len(body)), body):
        view = memoryview(part)
        while view:
            view = view[os.write(descriptor, view) :]


def _receive(descriptor: int) -> bytes | None:
    """The next frame, or None at the end of input."""
    head = _exactly(descriptor, 4)
    return _exactly(descriptor, struct.unpack(">I", head)[0]) if head else None


def _exactly(descriptor: int, size: int) -> bytes | None:
    parts: list[bytes] = []
    while size:
        part = os.read(descriptor, size)
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


if __name__ == "__main__":
    main()
