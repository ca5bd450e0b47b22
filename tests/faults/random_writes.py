"""Random INSERTs, UPDATEs and DELETEs on a few rows of a source's table, each its own transaction. Seeded.

Before this: a `TableSource`. After this: fault tests. Texts share paragraphs, so that versions share chunks, and texts
leave and come back.
"""

from __future__ import annotations

import random

from tests.support.source import TableSource

TABLE = "CREATE TABLE {table} (id int PRIMARY KEY, title text, body text)"
SOURCE = {"text": "body", "title": "title", "metadata": ["title"]}

_WORDS = [
    *("river", "gravel", "delta", "meadow", "harbour", "lantern", "granite", "orchard", "compass", "ferry"),
    *("willow", "anchor", "market", "tunnel", "bridge", "signal", "valley", "copper", "winter", "engine"),
]


class RandomWrites:
    """Writes one change at a time; every change is exactly one record of the connector.

    written: every text that a row may have had, by key, oldest first.
    """

    def __init__(self, source: TableSource, rng: random.Random, *, rows: int = 60) -> None:
        self._source = source
        self._rng = rng
        self._rows = rows
        self._present: set[int] = set()
        self.changes = 0
        self.written: dict[int, list[str]] = {}
        self._paragraphs = [f"Paragraph {number} {' '.join(rng.choices(_WORDS, k=60))}." for number in range(40)]

    def one(self) -> None:
        """One change."""
        key = self._rng.randrange(self._rows)
        text = self._text()
        if key not in self._present:
            self.written.setdefault(key, []).append(text)
            self._source.execute("INSERT INTO {table} VALUES (%s, %s, %s)", (key, self._title(), text))
            self._present.add(key)
        elif self._rng.random() < 0.25:
            self._source.execute("DELETE FROM {table} WHERE id = %s", (key,))
            self._present.discard(key)
        elif self._rng.random() < 0.2:
            self._source.execute("UPDATE {table} SET title = %s WHERE id = %s", (self._title(), key))
        else:
            self.written.setdefault(key, []).append(text)
            self._source.execute("UPDATE {table} SET body = %s WHERE id = %s", (text, key))
        self.changes += 1

    def look(self) -> None:
        """Take from the table which rows there are: after a write whose end is not known."""
        self._present = {int(row["id"]) for row in self._source.rows() if int(row["id"]) < self._rows}

    def text(self) -> str:
        """A text as rows have them: paragraphs out of a few dozen."""
        return self._text()

    def words(self) -> str:
        """One short paragraph that no other text has."""
        return f"Filed under {self._rng.randrange(10**9)}: {' '.join(self._rng.choices(_WORDS, k=20))}."

    def _text(self) -> str:
        return "\n\n".join(self._rng.choices(self._paragraphs, k=self._rng.randint(1, 5)))

    def _title(self) -> str:
        return f"Title {self._rng.randrange(5)}"
