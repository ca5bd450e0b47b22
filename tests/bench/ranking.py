"""`make bench BENCH=quality`: which way of searching, and of cutting, puts the right passage among the first ten.

Before: `make setup` (the local model); no server. After: a table; `query_api`'s defaults are the best of its lines.
The documents are those of `quality.py`. A question is a section's title, or a document's first sentence, and is taken
out of the text it asks for. Each leg scores as Weaviate does: BM25 with its constants and stop words, cosine, and its
relative fusion over the best hundred of each.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from query_api.retrieval.rerank_models import reranker_from
from query_api.retrieval.weaviate_index import ALPHA
from runtime.embedding.select import embedder_from
from runtime.settings import QueryApi, load_settings
from streams.core.structure import blocks_of
from tests.bench.quality import Question, Span, Splitter, Text, corpus, fixed, ours, recursive, remembering
from tests.stand_ins.model_answers import relevance

DEPTH = 50
"""Hits that are ordered anew: `rerank.candidates`."""

BUDGET = 2_000
_ANSWER = 300
_FIRST = 10
_LEG = 100
_K1, _B = 1.2, 0.75
_STOP = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be but by for if in into is it no not of on or such that the their then there these they "
        "this to was will with",
    )
)
_LONGEST_GOLD = 1_500
_SENTENCE = re.compile(r"[A-Z][^|<>=\\{}]{40,220}?[.!?](?=\s)")

Scores = npt.NDArray[np.float32]
Ranking = list[int]


@dataclass(frozen=True)
class Line:
    """One way's numbers over all questions, by kind of question, and of all together.

    ndcg and recall count the first ten chunks, so larger chunks have it easier. read does not: the share of questions
    of which half the answer (its first 300 characters) stands in the first BUDGET characters of what was found.
    """

    name: str
    chunks: int
    ndcg: dict[str, float]
    recall: dict[str, float]
    read: dict[str, float]


def labelled(texts: Sequence[Text]) -> tuple[list[Text], list[Question]]:
    """The texts without what is asked, and the questions with where in the new texts the answer stands."""
    titles = Counter(words for text in texts for words, _, _ in _sections(text))
    changed, asked = [], []
    for number, text in enumerate(texts):
        found = [("title", *one) for one in _sections(text) if titles[one[0]] == 1 and len(one[0].split()) >= 2]
        opening = _SENTENCE.search(text.body, 0, 1_000)
        if opening and not any(_overlap(opening.span(), cut) for _, _, cut, _ in found):
            gold = (opening.end(), min(len(text.body), opening.end() + 300))
            found.append(("first sentence", " ".join(opening.group().split()), opening.span(), gold))
        cuts = sorted(cut for _, _, cut, _ in found)
        kept = [0, *(edge for cut in cuts for edge in cut), len(text.body)]
        body = "".join(text.body[start:end] for start, end in zip(kept[::2], kept[1::2], strict=True))
        changed.append(Text(text.name, body, text.content_type, text.summary))
        for kind, words, _, gold in found:
            span = (_moved(gold[0], cuts), _moved(gold[1], cuts))
            if body[slice(*span)].strip():
                asked.append(Question(kind, words, number, span))
    return changed, asked


def _sections(text: Text) -> Iterator[tuple[str, Span, Span]]:
    """Each heading that prose follows: its words, where it stands, and where its section does."""
    blocks = blocks_of(text.body, text.content_type)
    edges = [block.start for block in blocks if block.kind == "heading"]
    for block, following in pairwise(blocks):
        if block.kind == "heading" and following.kind == "paragraph":
            words = text.body[block.start : block.end].strip("#").splitlines()[0].strip()
            end = min([edge for edge in edges if edge > block.start] or [len(text.body)])
            yield words, (block.start, block.end), (following.start, min(end, following.start + _LONGEST_GOLD))


def _overlap(one: Span, other: Span) -> int:
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))


def _moved(at: int, cuts: Sequence[Span]) -> int:
    return at - sum(min(end, at) - start for start, end in cuts if start < at)


class Chunks:
    """A corpus, cut and indexed both ways."""

    def __init__(
        self, texts: Sequence[Text], splitter: Splitter, embed: Callable[[list[str]], npt.NDArray[np.float32]]
    ) -> None:
        self.spans = [(number, start, end) for number, text in enumerate(texts) for start, end in splitter(text)]
        self.texts = [texts[number].body[start:end] for number, start, end in self.spans]
        self._embed = embed
        self._vectors = embed(self.texts)
        counts = [Counter(_words(text)) for text in self.texts]
        lengths = np.array([sum(count.values()) for count in counts], dtype=np.float32)
        self._norms = _K1 * (1 - _B + _B * lengths / lengths.mean())
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for at, count in enumerate(counts):
            for word, times in count.items():
                self._postings[word].append((at, times))

    def keyword(self, query: str) -> Scores:
        """BM25; 0 for a chunk without a word of the query."""
        found = np.zeros(len(self.texts), dtype=np.float32)
        for word in set(_words(query)):
            postings = self._postings.get(word, [])
            weight = math.log(1 + (len(self.texts) - len(postings) + 0.5) / (len(postings) + 0.5))
            for at, times in postings:
                found[at] += weight * times * (_K1 + 1) / (times + self._norms[at])
        return found

    def vector(self, query: str) -> Scores:
        """Cosine."""
        found: Scores = self._vectors @ self._embed([query])[0]
        return found

    def relevant(self, question: Question) -> frozenset[int]:
        """The chunks that lie in the question's section with half of themselves or 50 characters."""
        return frozenset(
            at
            for at, (number, start, end) in enumerate(self.spans)
            if number == question.document and _overlap((start, end), question.gold) >= min(50, (end - start) / 2)
        )

    def around(self, at: int, count: int) -> list[int]:
        """The chunk itself, then those of its document that stand at most `count` places from it."""
        near = range(max(0, at - count), min(len(self.spans), at + count + 1))
        return [at, *(other for other in near if other != at and self.spans[other][0] == self.spans[at][0])]

    def answers(self, question: Question, ranked: Sequence[Sequence[int]]) -> bool:
        """Whether half of the answer is read when BUDGET characters are, from the best chunk down."""
        start, end = question.gold[0], min(question.gold[1], question.gold[0] + _ANSWER)
        seen: set[int] = set()
        read: set[int] = set()
        left = BUDGET
        for at in (at for group in ranked for at in group):
            number, low, high = self.spans[at]
            if at in read:
                continue
            if high - low > left:
                break
            read.add(at)
            left -= high - low
            if number == question.document:
                seen.update(range(max(low, start), min(high, end)))
        return len(seen) >= (end - start) / 2


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in _STOP]


def best(scores: Scores, count: int = _LEG) -> Ranking:
    """The best chunks, of those that match at all."""
    order = np.argsort(-scores, kind="stable")[:count]
    return [int(at) for at in order if scores[at] > 0]


def fused(keyword: Scores, vector: Scores, alpha: float) -> Ranking:
    """Weaviate's relative fusion: each leg's best hundred, brought to 0..1; alpha is the vector's weight."""
    total: dict[int, float] = defaultdict(float)
    for scores, weight in ((keyword, 1 - alpha), (vector, alpha)):
        leg = best(scores)
        if leg and weight:
            low, high = float(scores[leg[-1]]), float(scores[leg[0]])
            for at in leg:
                total[at] += weight * ((float(scores[at]) - low) / (high - low) if high > low else 1.0)
    return sorted(total, key=lambda at: (-total[at], at))


def spread(ranking: Ranking, spans: Sequence[tuple[int, int, int]], most: int) -> Ranking:
    """At most so many chunks of one document; 0: any number."""
    counts: Counter[int] = Counter()
    kept = []
    for at in ranking:
        counts[spans[at][0]] += 1
        if not most or counts[spans[at][0]] <= most:
            kept.append(at)
    return kept


def ndcg(ranking: Ranking, relevant: frozenset[int]) -> float:
    """Of the first ten, where one chunk of the right section is all that is wanted: 1 if it comes first."""
    ranks = (rank for rank, at in enumerate(ranking[:_FIRST]) if at in relevant)
    first = next(ranks, None)
    return 0.0 if first is None else 1 / math.log2(first + 2)


def line(name: str, chunks: Chunks, asked: Sequence[Question], rankings: Sequence[Ranking], *, beside: int = 0) -> Line:
    """The means over the questions. beside: so many neighbours come with each chunk, and count as it does."""
    gains: dict[str, list[tuple[float, bool, bool]]] = defaultdict(list)
    for question, ranking in zip(asked, rankings, strict=True):
        near = [chunks.around(at, beside) for at in ranking]
        right = chunks.relevant(question)
        relevant = frozenset(at for at, group in zip(ranking, near, strict=True) if not right.isdisjoint(group))
        gain = (ndcg(ranking, relevant), not relevant.isdisjoint(ranking[:_FIRST]), chunks.answers(question, near))
        for kind in (question.kind, "all"):
            gains[kind].append(gain)
    ndcgs, recalls, reads = (
        {kind: float(np.mean([gain[number] for gain in gains[kind]])) for kind in sorted(gains)} for number in range(3)
    )
    return Line(name, len(chunks.spans), ndcgs, recalls, reads)


def measure(tell: Callable[[str], None]) -> list[Line]:
    """All lines: ways of searching over the product's chunks, then other chunks, searched as by default."""
    most = QueryApi().per_document
    settings = load_settings(os.environ)
    texts, asked = labelled(corpus())
    embed = remembering(embedder_from(settings.embedding))
    tell(f"{len(texts)} documents, {len(asked)} questions")
    chunks = Chunks(texts, ours, embed)
    tell(f"{len(chunks.spans)} chunks, embedded")
    legs = [(chunks.keyword(one.words), chunks.vector(one.words)) for one in asked]
    by_default = [fused(keyword, vector, ALPHA) for keyword, vector in legs]

    def searched(name: str, rankings: Sequence[Ranking], most: int = most, beside: int = 0) -> Line:
        return line(name, chunks, asked, [spread(one, chunks.spans, most) for one in rankings], beside=beside)

    lines = [
        searched("keyword", [best(keyword) for keyword, _ in legs]),
        searched("vector", [best(vector) for _, vector in legs]),
    ]
    for alpha in sorted({0.25, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, ALPHA}):
        rankings = [fused(keyword, vector, alpha) for keyword, vector in legs]
        lines.append(searched(f"hybrid, alpha {alpha:g}" + (" (default)" if alpha == ALPHA else ""), rankings))
    lines += [searched(f"hybrid, {most or 'any number'} per document", by_default, most) for most in (1, 2, 3, 5, 0)]
    lines += [searched(f"hybrid, {n} neighbours on each side", by_default, beside=n) for n in (1, 2)]
    lines.append(
        searched(
            "hybrid + rerank by shared words",
            [
                sorted(ranking[:DEPTH], key=lambda at: -relevance(one.words, chunks.texts[at]))
                for one, ranking in zip(asked, by_default, strict=True)
            ],
        )
    )
    if settings.rerank.provider != "none":
        name = f"hybrid + rerank by {settings.rerank.model or settings.rerank.provider}"
        lines.append(searched(name, asyncio.run(_by_model(settings.rerank, asked, by_default, chunks.texts))))
    size = round(sum(end - start for _, start, end in chunks.spans) / len(chunks.spans))
    others: list[tuple[str, Splitter]] = [
        ("fixed, same mean", fixed(size + size // 20)),
        ("fixed, a fifth of overlap", fixed(size + size // 20, size // 5)),
        ("recursive, same mean", recursive(size * 3 // 2)),
        ("fixed, 500", fixed(525)),
        ("recursive, 800", recursive(800)),
    ]
    for name, splitter in others:
        tell(f"chunks: {name}")
        other = Chunks(texts, splitter, embed)
        rankings = [fused(other.keyword(one.words), other.vector(one.words), ALPHA) for one in asked]
        lines.append(line(f"chunks: {name}", other, asked, [spread(one, other.spans, most) for one in rankings]))
    return lines


async def _by_model(
    settings: Any, asked: Sequence[Question], rankings: Sequence[Ranking], texts: Sequence[str]
) -> list[Ranking]:
    reranker = reranker_from(settings)
    assert reranker is not None
    found = []
    for one, ranking in zip(asked, rankings, strict=True):
        head = ranking[:DEPTH]
        scores = dict(zip(head, await reranker.scores(one.words, [texts[at] for at in head]), strict=True))
        found.append(sorted(head, key=lambda at: -scores[at]))
    await reranker.close()
    return found


def table(lines: Sequence[Line]) -> str:
    """For a terminal, and for README.md."""
    kinds = list(lines[0].ndcg)
    head = [f"{score} {kind}" for score in ("nDCG@10", "recall@10", "read in 2 kB") for kind in kinds]
    rows = [f"| way | chunks | {' | '.join(head)} |", f"| --- | ---: |{' ---: |' * len(head)}"]
    for one in lines:
        values = [scores[kind] for scores in (one.ndcg, one.recall, one.read) for kind in kinds]
        rows.append(f"| {one.name} | {one.chunks:,} | {' | '.join(f'{value:.3f}' for value in values)} |")
    return "\n".join(rows)
