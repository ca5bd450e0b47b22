"""Freshness: row updates at a steady pace, each from COMMIT to the first search that returns its text.

Before: a running stack. After: `__main__` prints the numbers and judges them.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import local

import psycopg

from deploy.demo.client import Client, percentile, seconds_until
from deploy.demo.table import apply_source
from deploy.local import apps

BASE = "bench"
ROWS = 50
"""So many that a row's next update comes long after its last one was found: none is superseded unseen."""

POLLERS = 6
LOST_S = 30.0
P50_S, P95_S = 1.0, 2.0

SOURCE = f"""\
name: bench_items
knowledge_base: {BASE}
table: bench.items
text: body
title: title
"""
TABLE = """
CREATE SCHEMA IF NOT EXISTS bench;
DROP TABLE IF EXISTS bench.items;
CREATE TABLE bench.items (id integer PRIMARY KEY, title text NOT NULL, body text NOT NULL);
ALTER TABLE bench.items REPLICA IDENTITY FULL;
"""
_TEXT = (
    "Station {row} reports the level of the river once an hour. The gauge is read by eye, compared with the float and "
    "written down with the time and the weather. The word of this reading is {word}."
)


@dataclass(frozen=True)
class Freshness:
    """Seconds from COMMIT to searchable; missing counts updates that no search returned within 30 s."""

    count: int
    missing: int
    p50: float
    p95: float
    max: float

    @property
    def good(self) -> bool:
        """The promise is kept, and nothing was lost."""
        return self.count > 0 and not self.missing and self.p50 < P50_S and self.p95 < P95_S


@contextmanager
def source(dsn: str, environment: dict[str, str]) -> Iterator[psycopg.Connection]:
    """A captured table of the benchmark's own, all rows searchable later; it is gone afterwards, documents too."""
    environment = {**os.environ, **environment, "PYTHONPATH": str(apps.code_root())}
    with TemporaryDirectory(prefix="thalweg-bench-") as folder, psycopg.connect(dsn, autocommit=True) as session:
        file = Path(folder) / "bench_items.yaml"
        file.write_text(SOURCE, encoding="utf-8")
        session.execute(TABLE)
        rows = [(row, f"Station {row}", _TEXT.format(row=row, word="none")) for row in range(ROWS)]
        with session.cursor() as cursor:
            cursor.executemany("INSERT INTO bench.items VALUES (%s, %s, %s)", rows)
        try:
            apply_source(file, environment)
            yield session
        finally:
            remove = apps.command(("sources", "remove", str(file), "--delete-documents"))
            subprocess.run(remove, env=environment, check=True, capture_output=True, timeout=120)
            session.execute("DROP SCHEMA bench CASCADE")


def measure(
    session: psycopg.Connection,
    client: Callable[[], Client],
    *,
    updates: int,
    per_second: float,
    tell: Callable[[str], None],
) -> Freshness:
    """Update rows at this pace; POLLERS threads search for the words, each every 10 ms or so."""
    run, mine = f"{time.time_ns():x}"[-8:], local()

    def find(word: str, committed: float) -> float | None:
        if not hasattr(mine, "client"):
            mine.client = client()
        return seconds_until(lambda: _finds(mine.client, word), committed, LOST_S)

    # The first rows are the source's snapshot: the pace begins when they are through.
    with client() as asked:
        arrived = seconds_until(lambda: asked.document(f"bench_items:{ROWS - 1}") is not None, time.monotonic(), 120.0)
    if arrived is None:
        raise RuntimeError("the bench's table was not captured within 120 s")
    waiting: list[Future[float | None]] = []
    with ThreadPoolExecutor(POLLERS) as pool:
        began = time.monotonic()
        for number in range(updates):
            time.sleep(max(0.0, began + number / per_second - time.monotonic()))
            word = f"word{run}n{number}"
            row = number % ROWS
            session.execute("UPDATE bench.items SET body = %s WHERE id = %s", (_TEXT.format(row=row, word=word), row))
            waiting.append(pool.submit(find, word, time.monotonic()))
            if number % 50 == 49:
                tell(f"{number + 1} of {updates} updates written")
        found = [future.result() for future in waiting]
    seconds = [one for one in found if one is not None] or [LOST_S]
    return Freshness(
        count=updates,
        missing=found.count(None),
        p50=round(percentile(seconds, 0.5), 3),
        p95=round(percentile(seconds, 0.95), 3),
        max=round(max(seconds), 3),
    )


def _finds(client: Client, word: str) -> bool:
    return any(word in hit["text"] for hit in client.search(word, mode="keyword", limit=1))
