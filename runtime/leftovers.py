"""What killed processes left of files that they were writing: removed once it is surely nobody's.

Before this: a process that starts (`connectors/upload_api/main.py`, `streams/bootstrap.py`). After this: the spool, the
blob store's folder. Several processes may share a folder: what another one still writes is younger than a day.
"""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import structlog

UNTOUCHED_S = 86_400.0
"""A day: receiving, copying and parsing a file are bounded by minutes, and clocks of machines differ by less."""

_log = structlog.get_logger(__name__)


def clear(folder: Path, pattern: str, now_s: Callable[[], float] = time.time) -> int:
    """Remove what lies in the folder under such names, files or folders, and was not written to for a day; how many.

    Raises nothing: a start does not fail for this, and another process may be removing the same.
    """
    removed = 0
    for path in sorted(folder.glob(pattern)):
        try:
            found = path.lstat()
            if now_s() - found.st_mtime <= UNTOUCHED_S:
                continue
            if stat.S_ISDIR(found.st_mode):
                shutil.rmtree(path)
            else:
                path.unlink()
            removed += 1
        except FileNotFoundError:
            continue  # somebody was faster
        except OSError as error:
            _log.warning("leftover_not_removed", folder=str(folder), reason=error.strerror)
    if removed:
        _log.info("leftovers_removed", folder=str(folder), count=removed)
    return removed
