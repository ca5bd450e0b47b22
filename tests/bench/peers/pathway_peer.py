"""Pathway: documents by key from a Python connector, split, flattened, embedded in a UDF, written from `subscribe`.

Settings: the embedding UDF as it is by default, and with `deterministic=True` and a cache (in memory, as good as on
disk within one run). TokenCountSplitter, its smallest size in the proportion of its defaults (50 to 500).
A document "tick" goes along with each step; the step is over when its time has ended behind the sink.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import llama_index.core

# The tokenizer's table lies in another package of this environment: nothing is fetched at run time.
os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(llama_index.core.__file__).parent / "_static" / "tiktoken_cache")

import pathway as pw
from pathway.internals.api import SessionType
from pathway.internals.parse_graph import G
from pathway.xpacks.llm.splitters import TokenCountSplitter
from rules import follow, once, whole
from wire import Meter, Operation, Record, Step, Way, answer, steps, tuned

WAYS = {"Pathway": False, "Pathway + cache": True}
SETTING = "TokenCountSplitter, up to {size} tokens"
TICK = "tick "
DEADLINE_S = 300.0
Row = dict[str, str]


class Documents(pw.Schema):
    """A row of the source."""

    document: str = pw.column_definition(primary_key=True)
    text: str
    title: str
    access: str


class Feed(pw.io.python.ConnectorSubject):
    """Hands in one step, waits until it is through, tells, and hands in the next."""

    def __init__(self, each: Iterable[list[Row]], ended: Callable[[int], None]) -> None:
        super().__init__()
        self._each, self._ended = each, ended
        self._seen = threading.Condition()
        self._tick, self._tick_time, self._time = -1, -1, -1

    @property
    def _session_type(self) -> SessionType:
        # As Pathway's own message advises where a key comes again: the later row takes the earlier one's place.
        return SessionType.UPSERT

    def run(self) -> None:
        for number, rows in enumerate(self._each):
            for row in rows:
                if "text" in row:
                    self.next(**row)
                else:
                    self.delete(**row)
            self.next(document="tick", text=f"{TICK}{number}", title="", access="")
            self.commit()
            with self._seen:
                if not self._seen.wait_for(lambda: self._tick == number and self._time >= self._tick_time, DEADLINE_S):  # noqa: B023
                    os._exit(3)  # an exception in this thread would leave the engine waiting
            self._ended(number)

    def on_change(self, text: str, time: int) -> None:
        """The sink saw a new row."""
        if text.startswith(TICK):
            with self._seen:
                self._tick, self._tick_time = int(text.removeprefix(TICK)), time

    def on_time_end(self, time: int) -> None:
        """The sink saw all of a time."""
        with self._seen:
            self._time = time
            self._seen.notify_all()


def run(
    each: Iterable[list[Row]],
    split: Callable[[str], list[str]],
    ended: Callable[[int], None],
    meter: Meter,
    *,
    cached: bool,
) -> None:
    G.clear()
    feed = Feed(each, ended)
    settings = {"deterministic": True, "cache_strategy": pw.udfs.InMemoryCache()} if cached else {}

    @pw.udf(deterministic=True)
    def pieces(text: str) -> list[str]:
        return [text] if text.startswith(TICK) else split(text)

    @pw.udf(**settings)
    def embed(text: str) -> list[float]:
        return [0.0] if text.startswith(TICK) else meter.embed([text])[0]

    def on_change(key, row, time, is_addition) -> None:
        if row["document"] == "tick":
            if is_addition:
                feed.on_change(row["text"], time)
        elif is_addition:
            meter.writes += 1
        else:
            meter.deletes += 1

    rows = pw.io.python.read(feed, schema=Documents, autocommit_duration_ms=None)
    chunks = rows.select(rows.document, rows.title, rows.access, text=pieces(rows.text)).flatten(pw.this.text)
    vectors = chunks.select(chunks.document, chunks.title, chunks.access, chunks.text, vector=embed(chunks.text))
    pw.io.subscribe(vectors, on_change=on_change, on_time_end=feed.on_time_end)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


def table(operations: list[Operation]) -> dict[str, list[dict[str, int]]]:
    each = [
        [{"document": one.document}]
        if one.paragraphs is None
        else [{"document": one.document, "text": one.text, "title": one.title, "access": ",".join(one.access)}]
        for one in operations
        if one.name != "rebuild"  # only with a cache on disk and a restart: not tried
    ]
    return {name: _row(each, cached) for name, cached in WAYS.items()}


def _row(each: list[list[Row]], cached: bool) -> list[dict[str, int]]:
    meter, rows = Meter(), list[dict[str, int]]()
    run(each, lambda text: text.split("\n\n"), lambda _: rows.append(meter.taken()), meter, cached=cached)
    return rows


def split(text: str, size: int) -> list[str]:
    splitter = TokenCountSplitter(min_tokens=max(1, size // 10), max_tokens=size)
    return [piece for piece, _ in splitter.chunk(text) if piece.strip()]


def edits(history: Path, folder: Path, mean: float) -> list[Way]:
    size, found = tuned(history, mean, lambda _, text, at: split(text, at), 130)
    rules = dict(zip(WAYS, (whole(), once()), strict=True))
    return follow(history, folder, rules, lambda _, text: split(text, size), (SETTING.format(size=size), found))


def engines(history: Path, folder: Path, mean: float) -> list[Way]:
    size, found = tuned(history, mean, lambda _, text, at: split(text, at), 130)
    return [
        Way(name, _by_engine(history, folder, size, cached), SETTING.format(size=size), found)
        for name, cached in WAYS.items()
    ]


def _by_engine(history: Path, folder: Path, size: int, cached: bool) -> str:
    meter, record = Meter(), Record(folder, f"pathway-{int(cached)}")
    begun: list[Step] = []

    def each() -> Iterator[list[Row]]:
        for step in steps(history):
            begun.append(step)
            yield [
                {"document": path} if text is None else {"document": path, "text": text, "title": "", "access": ""}
                for path, text in step.documents.items()
            ]

    def ended(_: int) -> None:
        record.add(begun.pop(), meter.texts)
        meter.taken()

    run(each(), lambda text: split(text, size), ended, meter, cached=cached)
    return record.close()


if __name__ == "__main__":
    answer(table, edits, engines)
