"""What the peers' scripts share: the bench's questions in, JSON out. Standard library only.

Before: `ask.py` starts a script as `SCRIPT table FILE`, `SCRIPT edits FILE FOLDER MEAN` (by the rules of `rules.py`) or
`SCRIPT engines FILE FOLDER MEAN` (by the tool itself). After: it prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FOUND = "FOUND "
"""Begins the line with the answer: the tools print much themselves."""


@dataclass
class Meter:
    """Counts at the one place that counts: where a text is handed to the model, and where the sink is written."""

    texts: list[str] = field(default_factory=list)
    writes: int = 0
    deletes: int = 0

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Vectors of two dimensions: what they say is not looked at."""
        self.texts += texts
        return [[float(len(text) % 97), 1.0] for text in texts]

    def taken(self) -> dict[str, int]:
        """What was counted since the last call."""
        found = {"texts": len(self.texts), "writes": self.writes, "deletes": self.deletes}
        self.texts, self.writes, self.deletes = [], 0, 0
        return found


@dataclass(frozen=True)
class Operation:
    """One thing that happens to a document; paragraphs is None if it is deleted."""

    name: str
    document: str
    paragraphs: list[str] | None
    title: str
    access: list[str]

    @property
    def text(self) -> str:
        """The document's text."""
        return "\n\n".join(self.paragraphs or [])


@dataclass(frozen=True)
class Way:
    """One way of using a tool over a history. file holds, a line a release, what was embedded.

    setting: the size at which its chunks have the mean (bytes) over the first releases.
    """

    name: str
    file: str
    setting: str
    mean: float


@dataclass(frozen=True)
class Step:
    """One release: the documents it changed, and those that are gone (None)."""

    project: str
    opening: bool
    documents: dict[str, str | None]


def operations(file: Path) -> list[Operation]:
    """The operations, in order."""
    return [Operation(**one) for one in json.loads(file.read_text(encoding="utf-8"))]


def steps(file: Path) -> Iterator[Step]:
    """The releases, in order."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield Step(**json.loads(line))


class Record:
    """Writes what was embedded, release by release."""

    def __init__(self, folder: Path, name: str) -> None:
        self.file = folder / f"{name}.jsonl"
        self._stream = self.file.open("w", encoding="utf-8")

    def add(self, step: Step, texts: Sequence[str]) -> None:
        """One release's texts."""
        self._stream.write(json.dumps({"opening": step.opening, "texts": list(texts)}) + "\n")

    def close(self) -> str:
        """The file's name."""
        self._stream.close()
        return str(self.file)


def tuned(history: Path, mean: float, split: Callable[[str, str, int], list[str]], guess: int) -> tuple[int, float]:
    """The size at which split(path, text, size) gives chunks of this mean size over the first releases, and their mean.

    guess: a size not far off, for the search goes in proportion. Raises SystemExit if none comes within 3 %.
    """
    texts = [(path, text) for step in steps(history) if step.opening for path, text in step.documents.items() if text]
    tried: dict[int, float] = {}
    size = guess
    for _ in range(10):
        count = total = 0
        for path, text in texts:
            pieces = split(path, text, size)
            count += len(pieces)
            total += sum(len(piece.encode("utf-8", "surrogatepass")) for piece in pieces)
        tried[size] = total / count
        if abs(tried[size] - mean) < 0.01 * mean:
            break
        size = max(1, round(size * mean / tried[size]))
        if size in tried:
            break
    best = min(tried, key=lambda one: abs(tried[one] - mean))
    if abs(tried[best] - mean) > 0.03 * mean:
        raise SystemExit(f"no size gives chunks of {mean:.0f} bytes: {tried}")
    return best, tried[best]


def answer(
    table: Callable[[list[Operation]], dict[str, list[dict[str, int]]]],
    edits: Callable[[Path, Path, float], list[Way]],
    engines: Callable[[Path, Path, float], list[Way]],
) -> None:
    """Do what the command line asks for, and print it."""
    asked, file = sys.argv[1], Path(sys.argv[2])
    found: Any
    if asked == "table":
        found = table(operations(file))
    else:
        way = edits if asked == "edits" else engines
        found = [asdict(one) for one in way(file, Path(sys.argv[3]), float(sys.argv[4]))]
    print(FOUND + json.dumps(found), flush=True)
