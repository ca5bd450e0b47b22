"""Puts one made thing into a cache folder, whole or not at all.

Before: `fetch` and `weaviate_build` know how to make a part. After: whoever runs it finds a finished folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from deploy.local.errors import ChecksumError

# Written last inside the temporary folder: a folder without it was made by hand or by a broken copy.
COMPLETE = ".complete"


@contextmanager
def exclusive(lock_file: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold `lock_file` against other processes; `on_wait` is called once if someone else has it now.

    The lock goes when the holder dies, so an interrupted set-up blocks nobody.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_installed(folder: Path) -> bool:
    """Whether `folder` was finished by `install`."""
    return (folder / COMPLETE).is_file()


def install(folder: Path, make: Callable[[Path], None], on_wait: Callable[[], None] | None = None) -> bool:
    """Make `folder` by calling `make(empty folder)` and renaming the result; True if it was made now.

    A death at any moment leaves either no `folder` or a whole one. Leftovers of an interrupted run are removed
    by the next one. Two callers at once: one makes it, the other waits and takes it.
    """
    if is_installed(folder):
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.parent / ".locks" / folder.name, on_wait):
        if is_installed(folder):
            return False
        for leftover in (folder, *folder.parent.glob(f".making-{folder.name}-*")):
            if leftover.exists():
                remove(leftover)
        making = Path(tempfile.mkdtemp(prefix=f".making-{folder.name}-", dir=folder.parent))
        try:
            make(making)
            # mkdtemp makes it private; a server may run as another user than the one who set it up.
            making.chmod(0o755)
            (making / COMPLETE).touch()
            making.rename(folder)
        except BaseException:
            remove(making)
            raise
    return True


def remove(folder: Path) -> None:
    """Delete a folder with everything in it, read-only files included (Go makes such)."""
    for parent, _, _ in os.walk(folder):
        Path(parent).chmod(0o700)
    shutil.rmtree(folder)


def sha256(file: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with file.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verify(folder: Path, expected: Mapping[str, str]) -> None:
    """Check that `folder` holds exactly the files of `expected` (name to hex sha256), each byte as locked.

    Raises `ChecksumError` naming each file that is missing, unknown or different.
    """
    found = {file.name: sha256(file) for file in folder.iterdir() if file.is_file()}
    wrong = [f"missing: {name}" for name in sorted(expected.keys() - found.keys())]
    wrong += [f"not in the lock file: {name}" for name in sorted(found.keys() - expected.keys())]
    wrong += [
        f"{name}: sha256 is {found[name]}, the lock file says {expected[name]}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] != expected[name]
    ]
    if wrong:
        raise ChecksumError(
            "What was fetched is not what parts.lock.json names:\n  " + "\n  ".join(wrong),
            "Do not use these files. A broken download: delete it from the client's own cache (~/.m2 for jars) and "
            "run `thalweg setup` again. A wanted change of versions: run `python -m deploy.local.lock` and review.",
        )
