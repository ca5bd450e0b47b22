"""What a whole history costs: ours, the peers' ways, and the bounds, at one mean chunk size.

Before: `history.py`, `ours.py`, `bound.py`, and the peers' scripts. After: `../report.py` prints it.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tests.bench.edits.archives import Release
from tests.bench.edits.bound import NeverSeen, chunks_by_bytes, chunks_by_runs, utf8
from tests.bench.edits.history import Revision, documents, revisions
from tests.bench.edits.ours import Ours
from tests.bench.edits.tokens import Tokens
from tests.bench.peers.ask import Peers

OURS = "Thalweg"
WHOLE = "whole documents"
BY_RUNS, BY_BYTES = "bound by runs", "bound by bytes"

MOST_OVER_BOUND, MOST_OF_WHOLE = 1.1, 0.1


@dataclass(frozen=True)
class Cost:
    """Texts handed to the model, and their tokens."""

    texts: int = 0
    tokens: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.texts + other.texts, self.tokens + other.tokens)


@dataclass(frozen=True)
class Line:
    """One way over the whole history. opening: its projects' first releases; later: all other releases.

    mean: of its chunks over the first releases, in bytes.
    """

    name: str
    setting: str
    mean: float
    opening: Cost
    later: Cost


@dataclass(frozen=True)
class Found:
    """The corpus in numbers, and a line for each way."""

    projects: int
    releases: int
    loaded: int
    edits: int
    megabytes: float
    mean: float
    lines: tuple[Line, ...]

    @property
    def good(self) -> bool:
        """Ours is at most 1.1 times the bound by runs and 0.1 of embedding every changed document anew."""
        ratios = self.ratios()
        return ratios[BY_RUNS] <= MOST_OVER_BOUND and ratios[WHOLE] <= MOST_OF_WHOLE

    def line(self, name: str) -> Line:
        """One way's."""
        return next(line for line in self.lines if line.name == name)

    def ratios(self) -> dict[str, float]:
        """Ours over the others' texts of later releases, by name."""
        ours = self.line(OURS).later.texts
        return {line.name: round(ours / line.later.texts, 3) for line in self.lines if line.later.texts}


def measure(
    releases: Sequence[Release],
    archives: Sequence[Path],
    tokens: Tokens,
    peers: Peers | None,
    tell: Callable[[str], None],
    *,
    engines: bool = False,
) -> Found:
    """Go through the history once for ours and the bounds, then once for each peer (none without peers).

    engines: the peers' engines themselves, not their rules: some minutes a project.
    """
    history = ((release, documents(archive)) for release, archive in zip(releases, archives, strict=True))
    with tempfile.TemporaryDirectory(prefix="thalweg-bench-") as work:
        written = Path(work) / "history.jsonl"
        began = time.monotonic()
        own = _Own(tokens, Ours())
        with written.open("w", encoding="utf-8") as stream:
            for _, group in groupby(revisions(history), key=lambda revision: revision.release):
                changed = list(group)
                stream.write(_step(changed) + "\n")
                own.take(changed)
        tell(f"{own.loaded + own.edits} revisions of {len(releases)} releases read in {time.monotonic() - began:.0f} s")
        lines, verb = own.lines(), "engines" if engines else "edits"
        for name, ask in ((name, peers.ask) for name in peers.scripts) if peers else ():
            began = time.monotonic()
            lines += [_counted(way, tokens) for way in ask(name, verb, str(written), work, repr(own.mean))]
            tell(f"{name} went through the history in {time.monotonic() - began:.0f} s")
    return Found(
        projects=len({release.project for release in releases}),
        releases=len(releases),
        loaded=own.loaded,
        edits=own.edits,
        megabytes=round(own.size / 1e6, 1),
        mean=round(own.mean, 1),
        lines=tuple(lines),
    )


class _Own:
    """Ours, the bounds and the whole-document way, revision by revision."""

    def __init__(self, tokens: Tokens, ours: Ours) -> None:
        self.loaded = self.edits = self.size = 0
        self._tokens, self._ours, self._seen = tokens, ours, NeverSeen()
        self._cost: dict[tuple[str, bool], Cost] = {}
        self._runs: list[tuple[bool, list[int], int]] = []
        self._bytes = self._chunks = 0

    @property
    def mean(self) -> float:
        """Bytes of our chunks over the first releases."""
        return self._bytes / self._chunks

    def take(self, changed: Iterable[Revision]) -> None:
        for revision in changed:
            if revision.text is None:
                continue
            self.size += utf8(revision.text)
            chunks = self._ours.chunks(revision)
            if revision.opening:
                self.loaded += 1
                self._chunks += len(chunks)
                self._bytes += sum(utf8(text) for text in chunks)
            else:
                self.edits += 1
            self._add(WHOLE, revision, chunks)
            self._add(OURS, revision, self._ours.embedded(chunks))
            runs = self._seen.runs(revision.text)
            self._runs.append((revision.opening, [utf8(run) for run in runs], self._tokens.count(runs)))

    def lines(self) -> list[Line]:
        """Ours, the whole documents, and the bounds at our mean chunk size."""
        made = [self._line(name, "") for name in (OURS, WHOLE)]
        for name, chunks in ((BY_RUNS, chunks_by_runs), (BY_BYTES, chunks_by_bytes)):
            for opening, sizes, tokens in self._runs:
                self._cost[name, opening] = self._cost.get((name, opening), Cost()) + Cost(
                    chunks(sizes, self.mean), tokens
                )
            made.append(self._line(name, ""))
        return made

    def _line(self, name: str, setting: str) -> Line:
        return Line(
            name,
            setting,
            round(self.mean, 1),
            self._cost.get((name, True), Cost()),
            self._cost.get((name, False), Cost()),
        )

    def _add(self, name: str, revision: Revision, texts: Sequence[str]) -> None:
        key = (name, revision.opening)
        self._cost[key] = self._cost.get(key, Cost()) + Cost(len(texts), self._tokens.count(texts))


def _step(changed: Sequence[Revision]) -> str:
    return json.dumps(
        {
            "project": changed[0].document.partition("/")[0],
            "opening": changed[0].opening,
            "documents": {revision.document: revision.text for revision in changed},
        }
    )


def _counted(way: Mapping[str, str | float], tokens: Tokens) -> Line:
    opening = later = Cost()
    with Path(str(way["file"])).open(encoding="utf-8") as stream:
        for row in stream:
            step = json.loads(row)
            cost = Cost(len(step["texts"]), tokens.count(step["texts"]))
            opening, later = (opening + cost, later) if step["opening"] else (opening, later + cost)
    return Line(str(way["name"]), str(way["setting"]), round(float(way["mean"]), 1), opening, later)
