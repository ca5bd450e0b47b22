"""Parts come into the cache whole or not at all."""

import multiprocessing
import os
from pathlib import Path

import pytest

from deploy.local.errors import ChecksumError
from deploy.local.install import COMPLETE, install, is_installed, sha256, verify


def make_one_file(folder: Path) -> None:
    (folder / "file").write_text("made")


def test_a_part_should_be_made_once_and_then_found(tmp_path: Path) -> None:
    part = tmp_path / "part-1"
    assert install(part, make_one_file) is True
    assert install(part, make_one_file) is False
    assert (part / "file").read_text() == "made"
    assert is_installed(part)


def test_a_half_made_part_should_be_thrown_away_and_made_anew(tmp_path: Path) -> None:
    part = tmp_path / "part-1"
    part.mkdir()
    (part / "rubbish").write_text("half")
    leftover = tmp_path / ".making-part-1-xyz"
    leftover.mkdir()
    assert not is_installed(part)
    assert install(part, make_one_file) is True
    assert sorted(file.name for file in part.iterdir()) == [COMPLETE, "file"]
    assert not leftover.exists()


def test_an_interrupted_making_should_leave_nothing(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> None:
        make_one_file(folder)
        (folder / "below").mkdir()
        (folder / "below" / "file").write_text("x")
        # Go's module files are read-only, and so are their folders.
        (folder / "below").chmod(0o500)
        raise KeyboardInterrupt

    part = tmp_path / "part-1"
    with pytest.raises(KeyboardInterrupt):
        install(part, interrupted)
    assert [file.name for file in tmp_path.iterdir()] == [".locks"]


def _install_and_count(part: Path, calls: Path, start: "multiprocessing.synchronize.Barrier") -> None:
    def make(folder: Path) -> None:
        with calls.open("a") as handle:
            handle.write(f"{os.getpid()}\n")
        make_one_file(folder)

    start.wait(30)
    install(part, make)


def test_two_setups_at_once_should_make_a_part_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    calls = tmp_path / "calls"
    both = [context.Process(target=_install_and_count, args=(tmp_path / "part-1", calls, start)) for _ in range(3)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0, 0]
    assert len(calls.read_text().splitlines()) == 1


def test_exactly_the_locked_files_should_be_accepted(tmp_path: Path) -> None:
    make_one_file(tmp_path)
    verify(tmp_path, {"file": sha256(tmp_path / "file")})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "file").write_text("other"), "file: sha256 is"),
        (lambda folder: (folder / "file").unlink(), "missing: file"),
        (lambda folder: (folder / "more").write_text("x"), "not in the lock file: more"),
    ],
)
def test_any_other_file_should_be_refused_by_name(tmp_path: Path, change, said: str) -> None:  # type: ignore[no-untyped-def]
    make_one_file(tmp_path)
    locked = {"file": sha256(tmp_path / "file")}
    change(tmp_path)
    with pytest.raises(ChecksumError, match=said):
        verify(tmp_path, locked)
