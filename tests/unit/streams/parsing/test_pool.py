"""Files that hang, crash and eat memory, and children that are killed: each costs only its own file."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from runtime.filetypes import Kind
from streams.parsing import pool as pool_module
from streams.parsing.pool import ParserPool, ParserUnavailable
from streams.parsing.result import ParsedText, ParseFailure
from tests.fixtures import make_files

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]

HANGS = b"[" * 200_000  # Python-Markdown takes hours for nested link openings


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return written(tmp_path / "good", make_files.make_md())


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


async def assert_still_reads(pool: ParserPool, good: Path) -> None:
    parsed = await pool.parse(good, Kind.MD, deadline_s=30)
    assert isinstance(parsed, ParsedText), parsed
    assert make_files.SENTENCE in parsed.text


async def reading_fork(pool: ParserPool) -> psutil.Process:
    """The process that reads a file just now."""
    found: list[psutil.Process] = []

    def seen() -> bool:
        found.extend(fork for child in pool.children for fork in psutil.Process(child.pid).children())
        return bool(found)

    await becomes(seen)
    return found[0]


async def test_a_hanging_file_ends_at_its_deadline_without_a_new_warm_up(
    pool: ParserPool, tmp_path: Path, good: Path
) -> None:
    before = pool.children
    hanging = written(tmp_path / "hang", HANGS)
    started = time.monotonic()
    failed = await pool.parse(hanging, Kind.MD, deadline_s=1)
    assert failed == ParseFailure("timeout", "the file took longer to read than one file may")
    assert 1 <= time.monotonic() - started < 3
    await assert_still_reads(pool, good)
    assert pool.children == before


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        pytest.param(Kind.CSV, b"abc\n" * 4_000_000, id="python"),
        pytest.param(Kind.HTML, b"<html><body>" + b"<p>x</p>" * 2_500_000, id="native"),
    ],
)
async def test_a_file_that_eats_memory_ends_alone(
    pool: ParserPool, tmp_path: Path, good: Path, kind: Kind, data: bytes
) -> None:
    failed = await pool.parse(written(tmp_path / "hog", data), kind, deadline_s=60)
    assert isinstance(failed, ParseFailure), "the file was read after all"
    assert failed.reason == "memory"
    await assert_still_reads(pool, good)


async def test_a_crashing_parser_fails_its_file_only(pool: ParserPool, tmp_path: Path, good: Path) -> None:
    before = pool.children
    reading = asyncio.create_task(pool.parse(written(tmp_path / "x", HANGS), Kind.MD, deadline_s=60))
    (await reading_fork(pool)).send_signal(signal.SIGSEGV)
    failed = await reading
    assert failed == ParseFailure("crashed", "the parser did not survive the file (signal SIGSEGV)")
    await assert_still_reads(pool, good)
    assert pool.children == before


async def test_processor_time_is_bounded_beside_the_deadline(pool: ParserPool, tmp_path: Path) -> None:
    reading = asyncio.create_task(pool.parse(written(tmp_path / "x", HANGS), Kind.MD, deadline_s=60))
    fork = await reading_fork(pool)
    await becomes(lambda: fork.rlimit(psutil.RLIMIT_CPU)[0] != psutil.RLIM_INFINITY)
    fork.rlimit(psutil.RLIMIT_CPU, (1, 2))
    failed = await reading
    assert isinstance(failed, ParseFailure)
    assert failed.reason == "timeout"


async def test_a_text_over_the_limit_is_too_large(pool: ParserPool, tmp_path: Path) -> None:
    failed = await pool.parse(written(tmp_path / "x", b"a word\n" * 800_000), Kind.CSV, deadline_s=60)
    assert isinstance(failed, ParseFailure)
    assert failed.reason == "too_large"


async def test_a_killed_child_is_replaced_and_its_file_read(pool: ParserPool, tmp_path: Path, good: Path) -> None:
    (before,) = pool.children
    reading = asyncio.create_task(pool.parse(written(tmp_path / "x", HANGS), Kind.MD, deadline_s=2))
    fork = await reading_fork(pool)
    os.kill(before.pid, signal.SIGKILL)
    failed = await reading
    assert isinstance(failed, ParseFailure)
    assert failed.reason == "timeout"
    assert not alive(fork.pid)
    (after,) = pool.children
    assert after.pid != before.pid
    await assert_still_reads(pool, good)


async def test_a_frozen_child_is_given_up_after_the_grace(
    pool: ParserPool, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_GRACE_S", 0.5)
    os.kill(pool.children[0].pid, signal.SIGSTOP)
    failed = await pool.parse(good, Kind.MD, deadline_s=0.5)
    assert isinstance(failed, ParseFailure)
    assert failed.reason == "timeout"
    await assert_still_reads(pool, good)


async def test_a_cancelled_caller_leaves_no_answer_for_the_next(pool: ParserPool, tmp_path: Path, good: Path) -> None:
    reading = asyncio.create_task(pool.parse(written(tmp_path / "x", HANGS), Kind.MD, deadline_s=60))
    await reading_fork(pool)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await assert_still_reads(pool, good)


async def test_a_file_that_is_gone_fails_as_that_file(pool: ParserPool, tmp_path: Path, good: Path) -> None:
    failed = await pool.parse(tmp_path / "nowhere", Kind.MD, deadline_s=5)
    assert isinstance(failed, ParseFailure)
    await assert_still_reads(pool, good)


async def test_the_child_has_no_network_and_no_secret(pool: ParserPool, monkeypatch: pytest.MonkeyPatch) -> None:
    (child,) = pool.children
    environment = psutil.Process(child.pid).environ()
    assert set(environment) <= {
        *("PATH", "PYTHONPATH", "PYTHONHASHSEED", "HOME", "TMPDIR", "LANG", "OPENBLAS_NUM_THREADS"),
        *("OMP_NUM_THREADS", "DO_NOT_TRACK", "UNSTRUCTURED_DISABLE_NOTICE"),
    }
    own = process_link("self", "ns/net")
    if child.network == "namespace":
        assert process_link(child.pid, "ns/net") != own
    else:
        assert child.network == "hook"


async def test_files_are_read_side_by_side_and_nothing_is_left_after_close(tmp_path: Path, good: Path) -> None:
    hanging = written(tmp_path / "x", HANGS)
    pool = ParserPool(processes=2)
    await pool.start()
    pids = {child.pid for child in pool.children}
    assert len(pids) == 2
    folders = {process_link(pid, "cwd") for pid in pids}
    reading = asyncio.create_task(pool.parse(hanging, Kind.MD, deadline_s=60))
    pids.add((await reading_fork(pool)).pid)
    await assert_still_reads(pool, good)
    await pool.close()
    with pytest.raises(ParserUnavailable):
        await reading
    with pytest.raises(ParserUnavailable):
        await pool.parse(good, Kind.MD, deadline_s=5)
    await gone(pids)
    assert len(folders) == 2
    assert not any(folder.exists() for folder in folders)


async def test_children_do_not_outlive_a_killed_worker(tmp_path: Path) -> None:
    hanging = written(tmp_path / "x", HANGS)
    script = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom runtime.filetypes import Kind\n"
        "from streams.parsing.pool import ParserPool\n"
        "async def main():\n"
        "    pool = ParserPool()\n    await pool.start()\n    print('warm', flush=True)\n"
        f"    await pool.parse(Path({str(hanging)!r}), Kind.MD, deadline_s=100)\n"
        "asyncio.run(main())\n"
    )
    root = Path(pool_module.__file__).parents[2]
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script), cwd=root, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    assert await asyncio.wait_for(worker.stdout.readline(), 60) == b"warm\n"
    process = psutil.Process(worker.pid)
    await becomes(lambda: len(process.children(recursive=True)) == 2)
    family = process.children(recursive=True)
    worker.kill()
    await worker.wait()
    await gone({process.pid for process in family})
    assert len(folders_of(worker.pid)) == 1
    async with ParserPool():
        assert folders_of(worker.pid) == []


async def test_too_little_memory_for_the_libraries_is_said_at_the_start() -> None:
    pool = ParserPool(memory_bytes=300_000_000)
    with pytest.raises(ParserUnavailable, match=r"memory_bytes"):
        await pool.start()
    assert pool.children == ()
    await pool.close()


async def test_a_child_that_does_not_get_ready_is_no_files_fault(good: Path) -> None:
    pool = ParserPool(warm_timeout_s=0.05)
    with pytest.raises(ParserUnavailable, match=r"did not load"):
        await pool.parse(good, Kind.MD, deadline_s=5)
    await pool.close()


async def gone(pids: set[int]) -> None:
    await becomes(lambda: not any(map(alive, pids)))


async def becomes(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it did not come true within 10 s"
        await asyncio.sleep(0.01)


def folders_of(worker: int) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"thalweg-parse-{worker}-*"))


def process_link(pid: int | str, name: str) -> Path:
    return Path(f"/proc/{pid}/{name}").readlink()


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
