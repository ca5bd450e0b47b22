"""One process's output in one file that cannot grow without bound.

Before: `child` reads the output from a pipe. After: `NAME.log`, and `NAME.log.1` with what came before it.
"""

from __future__ import annotations

import os
from pathlib import Path

# Two files a process: 16 MiB each, about a day of a busy broker's talk.
MAX_BYTES = 16 * 1024 * 1024


class CappedLog:
    """An append-only file that moves itself aside once it has `max_bytes`."""

    def __init__(self, file: Path, max_bytes: int = MAX_BYTES) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._descriptor = self._open()
        self._size = os.fstat(self._descriptor).st_size

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self._file)

    def write(self, data: bytes) -> None:
        """Append; a full disk loses log lines, never the process that writes them."""
        if self._size and self._size + len(data) > self._max_bytes:
            os.close(self._descriptor)
            self._file.replace(self._file.with_name(self._file.name + ".1"))
            self._descriptor = self._open()
            self._size = 0
        try:
            self._size += os.write(self._descriptor, data)
        except OSError:
            return

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _open(self) -> int:
        return os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def tail(file: Path, lines: int = 15) -> str:
    """The last `lines` lines, from at most the last 64 KiB; empty if there is no file."""
    try:
        with file.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - 65_536))
            return "\n".join(handle.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
