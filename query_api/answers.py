"""Answers with citations: the seam to whatever writes them, and the answer that needs no model.

Before it: the hits of a search. After it: `answer_models.py` (Cohere, OpenAI-compatible servers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from query_api.sentences import best_sentence, scores, sentences
from query_api.visibility import Hit

EXTRACTIVE = "extractive"
NOTHING_FOUND = "Nothing was found that answers this."
_MOST_SENTENCES = 3
_GOOD_ENOUGH = 0.6
"""A sentence is quoted beside the best one if it is worth at least this share of it."""


class AnswerUnavailable(Exception):
    """The model does not answer, or a person has to act. The text may be shown to a caller; it holds no secret."""


@dataclass(frozen=True)
class Citation:
    """A stretch of a hit that supports a stretch of the answer.

    hit is the index into the hits. quote is verbatim the characters [start, end) of the document's text.
    answer_start and answer_end are the stretch of the answer.
    """

    hit: int
    quote: str
    start: int
    end: int
    answer_start: int
    answer_end: int


@dataclass(frozen=True)
class Answer:
    """model `extractive`: the text is quoted, nobody wrote it. usage counts tokens: input_tokens, output_tokens."""

    text: str
    citations: tuple[Citation, ...]
    model: str
    usage: Mapping[str, int] = field(default_factory=dict)


class Answerer(Protocol):
    """Writes an answer from hits."""

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        """The answer, from these hits (at least one) and from nothing else. Raises AnswerUnavailable."""
        ...


class Extractive:
    """Answers by quoting: the sentences of the hits that cover the question best."""

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        """At most three sentences, verbatim, in the order of their hits."""
        pieces = [(number, sentence) for number, hit in enumerate(hits) for sentence in sentences(hit.text)]
        if not pieces:
            return Answer(NOTHING_FOUND, (), EXTRACTIVE)
        rated = scores(question, [sentence.text for _, sentence in pieces])
        # A better hit counts a little more: of two sentences with the same words the first hit's is meant.
        rated = [score + 0.1 / (1 + number) for score, (number, _) in zip(rated, pieces, strict=True)]
        order = sorted(range(len(pieces)), key=lambda at: -rated[at])
        chosen: list[int] = []
        for at in order:
            fresh = all(pieces[at][1].text != pieces[other][1].text for other in chosen)
            if fresh and rated[at] >= _GOOD_ENOUGH * rated[order[0]] and len(chosen) < _MOST_SENTENCES:
                chosen.append(at)
        text, citations = "", []
        for at in sorted(chosen):
            number, sentence = pieces[at]
            begin = len(text) + (1 if text else 0)
            text = f"{text} {sentence.text}" if text else sentence.text
            start = hits[number].start + sentence.start
            end = start + len(sentence.text)
            citations.append(Citation(number, sentence.text, start, end, begin, len(text)))
        return Answer(text, tuple(citations), EXTRACTIVE)


def supporting(hits: Sequence[Hit], number: int, statement: str, answer_start: int, answer_end: int) -> Citation | None:
    """The citation of a hit for a model's statement: the hit's sentence that says most of it."""
    if not 0 <= number < len(hits):
        return None
    sentence = best_sentence(statement, hits[number].text)
    if sentence is None:
        return None
    start = hits[number].start + sentence.start
    return Citation(number, sentence.text, start, start + len(sentence.text), answer_start, answer_end)
