"""A text's sentences with their offsets, and how well each one answers a question. Pure.

Before it: hits. After it: the extractive answer, and the quotes that stand behind a model's citations.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from query_api.answering.unseen import without_unseen

_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[^a-z\s])|(?<=[。！？])|\n\s*\n+|\n(?=\s*(?:[-*#>|]|\d+[.)])\s?)")
_WORD = re.compile(r"\w+")
_COMMON_WORDS = """
a an and are as at be been but by can could did do does for from had has have how i in into is it its may me my no not
of on or our shall should so such than that the their them then there these they this to was we were what when where
which while who whose why will with would you your about
"""
_COMMON = frozenset(_COMMON_WORDS.split())
_STEM = 6
"""Words count as equal if their first six letters are: `supports` and `supported`."""


@dataclass(frozen=True)
class Sentence:
    """A stretch [start, end) of a text, without white space at its ends."""

    start: int
    end: int
    text: str


def sentences(text: str) -> list[Sentence]:
    """The text's sentences in order; list items and headings are sentences of their own."""
    found, begin = [], 0
    for end in [*(match.end() for match in _END.finditer(text)), len(text)]:
        piece = text[begin:end]
        stripped = piece.strip()
        if stripped:
            start = begin + len(piece) - len(piece.lstrip())
            found.append(Sentence(start, start + len(stripped), stripped))
        begin = end
    return found


def words(text: str) -> list[str]:
    """The words that carry meaning, shortened to what tells them apart."""
    return [word[:_STEM] for word in _WORD.findall(without_unseen(text).lower()) if word not in _COMMON]


def scores(question: str, texts: Sequence[str]) -> list[float]:
    """For each text how well it covers the question's words, 0..1; rare words among the texts count more."""
    wanted = set(words(question))
    contained = [Counter(words(text)) for text in texts]
    weight = {word: _rarity(word, contained) for word in wanted}
    total = sum(weight.values())
    if not total:
        return [0.0 for _ in texts]
    # A long text covers more words by chance: beyond about 40 words it is worth less.
    return [
        sum(weight[word] for word in wanted if word in counted) / total / max(1.0, math.sqrt(counted.total() / 40))
        for counted in contained
    ]


def best_sentence(about: str, text: str) -> Sentence | None:
    """The text's sentence that says most of `about`; None if the text is blank."""
    found = sentences(text)
    if not found:
        return None
    rated = scores(about, [sentence.text for sentence in found])
    return found[max(range(len(found)), key=lambda number: rated[number])]


def _rarity(word: str, contained: Iterable[Counter[str]]) -> float:
    holders, everything = 0, 0
    for counted in contained:
        everything += 1
        holders += word in counted
    return math.log(1 + (everything + 1) / (holders + 0.5))
