"""The demo's table in PostgreSQL, and its source file: what a person would write to have a table indexed.

Before: `corpus` has the rows. After: Debezium captures them; `play` changes some.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

from deploy.demo.corpus import Row
from deploy.local import apps

BASE = "demo"
SOURCE = "articles"
APPLY_S = 180.0

SOURCE_FILE = f"""\
# A table as a source: `thalweg sources plan|apply|status|remove` work on this file.
name: {SOURCE}
knowledge_base: {BASE}
table: demo.articles
text: body
title: title
metadata: [kind, digest]
filterable: [kind]
"""

_TABLE = """
CREATE SCHEMA IF NOT EXISTS demo;
CREATE TABLE IF NOT EXISTS demo.articles (
    id text PRIMARY KEY, title text NOT NULL, body text NOT NULL, kind text NOT NULL, digest text NOT NULL
);
ALTER TABLE demo.articles REPLICA IDENTITY FULL;
"""
_UPSERT = """
INSERT INTO demo.articles (id, title, body, kind, digest) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE
SET title = excluded.title, body = excluded.body, kind = excluded.kind, digest = excluded.digest
WHERE demo.articles.digest <> excluded.digest
"""


class SourceFailed(Exception):
    """`thalweg sources apply` failed; the text is what it said."""


def document_id(row_id: str) -> str:
    """A row's document, as the capture stage names it."""
    return f"{SOURCE}:{row_id}"


class Articles:
    """The table demo.articles. Each change is a transaction of its own. Raises psycopg.Error."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True, connect_timeout=10)

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()

    def make(self, rows: Sequence[Row]) -> None:
        """Make the table where it is not there, and delete what is none of these rows."""
        with self._connection.transaction():
            self._connection.execute(_TABLE)
            self._connection.execute("DELETE FROM demo.articles WHERE id <> ALL(%s)", ([row.id for row in rows],))

    def put_all(self, rows: Sequence[Row]) -> None:
        """Insert or update rows, all in one transaction; rows that are so already are not touched."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(_UPSERT, [(row.id, row.title, row.body, row.kind, row.digest) for row in rows])

    def put(self, row: Row) -> float:
        """Insert or update a row; the moment (monotonic) at which COMMIT returned."""
        self.put_all([row])
        return time.monotonic()

    def delete(self, row_id: str) -> float:
        """Delete a row; the moment (monotonic) at which COMMIT returned."""
        with self._connection.transaction():
            self._connection.execute("DELETE FROM demo.articles WHERE id = %s", (row_id,))
        return time.monotonic()


def write_source(folder: Path) -> Path:
    """Write the source's YAML file into the folder; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{SOURCE}.yaml"
    file.write_text(SOURCE_FILE, encoding="utf-8")
    return file


def apply_source(file: Path, environment: dict[str, str]) -> None:
    """`thalweg sources apply FILE`, as a person would type it: returns when changes are streamed. Twice is no error.

    Raises SourceFailed.
    """
    command = apps.command(("sources", "apply", str(file), "--timeout", str(APPLY_S), "--json"))
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=APPLY_S + 30, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SourceFailed(f"`sources apply {file}` did not end within {APPLY_S + 30:.0f} s") from error
    if done.returncode:
        raise SourceFailed(f"`sources apply {file}`: {(done.stderr or done.stdout).strip()}")
