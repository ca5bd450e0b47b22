"""`python -m tests.bench.quality`: what the chunks' boundaries do to retrieval, beside plain ways to cut a text.

Before: `make setup` (the local model). After: a table on standard output, no verdict. Nothing but the way of cutting
differs: the same documents, questions and model, brute force over all chunks, no keywords. The documents are the
descriptions of the installed packages and Python's language topics; nobody wrote the questions for this.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.embedding.contract import Embedder
from runtime.embedding.select import embedder_from
from runtime.settings import load_settings
from streams.core.chunking import chunk
from streams.core.structure import blocks_of

SHORTEST, LONGEST = 1_500, 12_000
BUDGET = 2_000
"""Bytes of chunks that are read from the best one down; a splitter of small chunks gets more of them."""

Vectors = npt.NDArray[np.float32]
Span = tuple[int, int]
Splitter = Callable[["Text"], list[Span]]


@dataclass(frozen=True)
class Text:
    """A document of the corpus."""

    name: str
    body: str
    content_type: str
    summary: str


@dataclass(frozen=True)
class Question:
    """Words, and where in which document the answer stands."""

    kind: str
    words: str
    document: int
    gold: Span


@dataclass(frozen=True)
class Row:
    """One splitter's line: sizes, and by kind of question the shares that the names say."""

    name: str
    chunks: int
    mean: float
    scores: dict[str, dict[str, float]]


def corpus() -> list[Text]:
    """In a fixed order, each text once."""
    found: dict[str, Text] = {}
    for package in sorted(importlib.metadata.distributions(), key=lambda one: one.metadata["Name"].lower()):
        about: Any = package.metadata
        body = (about.get_payload() or about.get("Description") or "").strip()
        declared = (about.get("Description-Content-Type") or "").partition(";")[0].strip()
        kind = declared if declared == "text/markdown" else "text/plain"
        if SHORTEST <= len(body) <= LONGEST:
            found.setdefault(body, Text(about["Name"], body, kind, about.get("Summary") or ""))
    for name, topic in sorted(topics.items()):
        if SHORTEST <= len(topic) <= LONGEST:
            found.setdefault(topic.strip(), Text(name, topic.strip(), "text/plain", ""))
    return list(found.values())


_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_PROSE = re.compile(r"[A-Z][^|<>=\\{}]{60,220}[.!?]")


def questions(texts: Sequence[Text]) -> Iterator[Question]:
    """Half-remembered sentences, titles, and what packages say of themselves elsewhere."""
    titles = Counter(title for text in texts for title, _ in _titles(text))
    for number, text in enumerate(texts):
        draw = random.Random(text.name)
        sentences = list(_sentences(text))
        for start, end in draw.sample(sentences, min(5, len(sentences))):
            words = text.body[start:end].split()
            kept = sorted(draw.sample(range(len(words)), len(words) * 2 // 3))
            yield Question("sentence", " ".join(words[i] for i in kept), number, (start, end))
        for title, gold in _titles(text):
            if titles[title] == 1 and len(title.split()) >= 2:
                yield Question("title", title, number, gold)
        if len(text.summary.split()) >= 4:
            yield Question("summary", text.summary, number, (0, len(text.body)))


def _sentences(text: Text) -> Iterator[Span]:
    for block in blocks_of(text.body, text.content_type):
        if block.kind not in ("paragraph", "list_item"):
            continue
        at = block.start
        for gap in [*_SENTENCE.finditer(text.body, block.start, block.end), None]:
            end = gap.start() if gap else block.end
            if _PROSE.fullmatch(" ".join(text.body[at:end].split())):
                yield at, end
            at = gap.end() if gap else end


def _titles(text: Text) -> Iterator[tuple[str, Span]]:
    """Each heading that prose follows, with the first 300 characters of that."""
    blocks = blocks_of(text.body, text.content_type)
    for block, following in pairwise(blocks):
        if block.kind == "heading" and following.kind == "paragraph":
            title = text.body[block.start : block.end].strip("#").splitlines()[0].strip().lower()
            yield title, (following.start, min(following.end, following.start + 300))


def ours(text: Text) -> list[Span]:
    """The product's chunks."""
    return [(one.start, one.end) for one in chunk(text.body, content_type=text.content_type)]


def fixed(size: int, overlap: int = 0) -> Splitter:
    """Every `size` characters, put back to the last white space; each chunk repeats the end of the one before it."""

    def cut(text: Text) -> list[Span]:
        found, start, body = [], 0, text.body
        while start < len(body):
            end = min(start + size, len(body))
            if end < len(body):
                space = max(body.rfind(" ", start, end), body.rfind("\n", start, end))
                end = space if space > start + size // 2 else end
            if body[start:end].strip():
                found.append((start, end))
            start = end if end == len(body) else max(end - overlap, start + 1)
        return found

    return cut


def recursive(size: int) -> Splitter:
    """Paragraphs, lines, sentences, words: the largest that fit, packed from the front until `size` characters."""
    separators = ("\n\n", "\n", ". ", " ")

    def parts(body: str, start: int, end: int, depth: int) -> Iterator[Span]:
        if end - start <= size or depth == len(separators):
            yield start, end
            return
        low = start
        while low < end:
            found = body.find(separators[depth], low, end)
            high = end if found < 0 else found + len(separators[depth])
            yield from parts(body, low, high, depth + 1)
            low = high

    def cut(text: Text) -> list[Span]:
        found: list[Span] = []
        for start, end in parts(text.body, 0, len(text.body), 0):
            if found and end - found[-1][0] <= size:
                found[-1] = (found[-1][0], end)
            else:
                found.append((start, end))
        return [(start, end) for start, end in found if text.body[start:end].strip()]

    return cut


def measure(
    name: str,
    splitter: Splitter,
    texts: Sequence[Text],
    asked: Sequence[Question],
    embed: Callable[[list[str]], Vectors],
) -> Row:
    """One splitter over the whole corpus; `embed` gives unit vectors."""
    spans = [(number, start, end) for number, text in enumerate(texts) for start, end in splitter(text)]
    vectors = embed([texts[number].body[start:end] for number, start, end in spans])
    order = np.argsort(-(embed([one.words for one in asked]) @ vectors.T), axis=1, kind="stable")[:, :100]
    sums: dict[str, dict[str, float]] = {}
    for question, ranks in zip(asked, order, strict=True):
        scores = sums.setdefault(question.kind, Counter())
        for score, value in _score(question, [spans[int(i)] for i in ranks]).items():
            scores[score] += value
    counts = Counter(one.kind for one in asked)
    return Row(
        name,
        len(spans),
        sum(end - start for _, start, end in spans) / len(spans),
        {kind: {score: value / counts[kind] for score, value in scores.items()} for kind, scores in sums.items()},
    )


def _score(question: Question, ranked: Sequence[tuple[int, int, int]]) -> dict[str, float]:
    """A question is answered where half of its gold has been read (a summary's: where its document was opened)."""
    start, end = question.gold
    wanted = 1 if question.kind == "summary" else (end - start) / 2
    seen: set[int] = set()
    read, at_budget, at_rank = 0, False, 0
    for rank, (number, low, high) in enumerate(ranked, start=1):
        if number == question.document:
            seen.update(range(max(low, start), min(high, end, max(low, start) + 400)))
        read += high - low
        if len(seen) >= wanted:
            at_rank, at_budget = rank, read <= BUDGET
            break
    five = ranked[:5]
    gold = sum(max(0, min(high, end) - max(low, start)) for number, low, high in five if number == question.document)
    return {
        "r@1": float(at_rank == 1),
        "r@5": float(0 < at_rank <= 5),
        "mrr": 1 / at_rank if at_rank else 0.0,
        "r@2kB": float(at_budget),
        "precision@5": gold / sum(high - low for _, low, high in five),
    }


def remembering(embedder: Embedder) -> Callable[[list[str]], Vectors]:
    """Unit vectors; a text that several splitters have in common is embedded once."""
    known: dict[str, Vectors] = {}

    def embed(texts: list[str]) -> Vectors:
        missing = [one for one in dict.fromkeys(texts) if one not in known]
        for at in range(0, len(missing), 256):
            part = missing[at : at + 256]
            known.update(zip(part, np.asarray(embedder.embed_documents(part).vectors, dtype=np.float32), strict=True))
        return np.stack([known[one] for one in texts])

    return embed


def table(rows: Sequence[Row]) -> str:
    """For a terminal."""
    lines = []
    for kind in ("sentence", "title", "summary"):
        names = list(rows[0].scores[kind])[: 4 if kind == "summary" else None]
        lines.append(f"{kind:34}{'chunks':>7}{'mean':>6}" + "".join(f"{name:>12}" for name in names))
        for row in rows:
            values = "".join(f"{row.scores[kind][name]:12.3f}" for name in names)
            lines.append(f"  {row.name:32}{row.chunks:7}{row.mean:6.0f}{values}")
    return "\n".join(lines)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.quality", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    texts = corpus()
    asked = list(questions(texts))
    embed = remembering(embedder_from(load_settings(os.environ).embedding))
    total = sum(len(text.body) for text in texts)
    print(f"{len(texts)} documents, {total} characters, {len(asked)} questions", file=sys.stderr)
    first = measure("ours", ours, texts, asked, embed)
    size = round(first.mean)
    others: list[tuple[str, Splitter]] = [
        ("fixed, same mean", fixed(size + size // 20)),
        ("fixed, a fifth of overlap", fixed(size + size // 20, size // 5)),
        ("recursive, same mean", recursive(size * 3 // 2)),
        ("fixed, 500", fixed(525)),
        ("recursive, 800", recursive(800)),
    ]
    rows = [first]
    for name, splitter in others:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        rows.append(measure(name, splitter, texts, asked, embed))
    print(json.dumps([vars(row) for row in rows], indent=2) if as_json else table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
