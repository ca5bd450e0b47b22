"""What killed processes left is removed by whoever starts next, and nothing that somebody may still write."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime.leftovers import UNTOUCHED_S, clear

NOW = 1_000_000.0


def aged(path: Path, seconds: float) -> Path:
    os.utime(path, (NOW - seconds, NOW - seconds), follow_symlinks=False)
    return path


def test_only_what_was_not_touched_for_a_day_goes(tmp_path: Path) -> None:
    for name, seconds in (("old.part", UNTOUCHED_S + 1), ("young.part", UNTOUCHED_S), ("old.txt", UNTOUCHED_S * 9)):
        (tmp_path / name).write_text("x")
        aged(tmp_path / name, seconds)
    work = tmp_path / "a.part"
    work.mkdir()
    (work / "file").write_text("x")
    aged(work, UNTOUCHED_S * 2)

    assert clear(tmp_path, "*.part", lambda: NOW) == 2

    assert {path.name for path in tmp_path.iterdir()} == {"young.part", "old.txt"}


def test_what_a_link_points_to_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "a.part").symlink_to(kept)
    aged(spool / "a.part", UNTOUCHED_S * 2)

    assert clear(spool, "*.part", lambda: NOW) == 1

    assert (kept / "file").exists()


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert clear(tmp_path / "none", "*", lambda: NOW) == 0


def test_several_that_start_at_once_remove_each_file_once(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}.part").write_text("x")
        aged(tmp_path / f"{number}.part", UNTOUCHED_S * 2)

    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: clear(tmp_path, "*.part", lambda: NOW), range(8)))

    assert sum(counts) == 200
    assert list(tmp_path.iterdir()) == []
