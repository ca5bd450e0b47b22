"""Answers with citations: the seam to whatever writes them. Pure.

Before it: the hits of a search. After it: `answering/extractive.py` (no model), `answering/writer.py` (a model), and
whatever stands around an answerer (a cache, a breaker): all of it is an `Answerer`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from query_api.retrieval.ports import Passing
from query_api.retrieval.visibility import Hit

ANSWER = "answer"
"""The name of this part: in `degraded`, in the breakers' states, and in the settings."""

NOTHING_FOUND = "Nothing was found that answers this."


class AnswerUnavailable(Exception):
    """The model gives no answer, or none that can be used. The text may be shown to a caller; it holds no secret."""


class AnswerMisconfigured(AnswerUnavailable):
    """A person has to act: the key, the model's name or the address is wrong."""


class AnswerLater(Passing, AnswerUnavailable):
    """The model is away, busy or broke off: the same question may be answered a moment later."""


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
    """model `extractive`: the text is quoted, nobody wrote it. usage counts tokens: input_tokens, output_tokens.

    cost: US dollars that this answer cost, by the configured prices; None where none is configured for the model.
    Whoever gives an answer again that was paid for already gives it with `free()`. cached: it is given again.
    degraded names parts that were wanted and away: such an answer is for this moment, and not to be kept.
    """

    text: str
    citations: tuple[Citation, ...]
    model: str
    usage: Mapping[str, int] = field(default_factory=dict)
    cost: float | None = 0.0
    cached: bool = False
    degraded: tuple[str, ...] = ()

    def free(self) -> Answer:
        """The same answer at no cost and without tokens: nobody was asked for it this time."""
        return replace(self, usage=dict.fromkeys(self.usage, 0), cost=0.0)


class Answerer(Protocol):
    """Writes an answer from hits (at least one) and from nothing else."""

    def identity(self, question: str) -> str:
        """What decides the answer beside question and hits: model, prompt, limits, as one line that tells no secret.

        Under equal identities an answer to the same question from the same hits may be given again.
        """
        ...

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        """The answer, whole. Bounded in time. Raises AnswerUnavailable."""
        ...

    def stream(self, question: str, hits: Sequence[Hit]) -> AsyncGenerator[str | Answer, None]:
        """The answer as it is written: stretches of its text, then, last, the Answer; its text is all stretches joined.

        Each wait and the whole are bounded. Raises AnswerUnavailable, also after some stretches. Close it to stop the
        model (`contextlib.aclosing`).
        """
        ...


async def at_once(answer: Answer) -> AsyncGenerator[str | Answer, None]:
    """The stream of an answer that is there already."""
    if answer.text:
        yield answer.text
    yield answer


def verified(answer: Answer, hits: Sequence[Hit]) -> Answer:
    """The answer with those citations only that hold: a quote that is verbatim what stands there, for a stretch of it.

    It is asked of every answer, whoever made it: a model, a cache, an earlier version of this program.
    """
    holding = tuple(citation for citation in answer.citations if _holds(citation, answer, hits))
    return answer if len(holding) == len(answer.citations) else replace(answer, citations=holding)


def _holds(citation: Citation, answer: Answer, hits: Sequence[Hit]) -> bool:
    if not 0 <= citation.hit < len(hits):
        return False
    hit = hits[citation.hit]
    inside = hit.start <= citation.start < citation.end <= hit.end
    stretch = 0 <= citation.answer_start <= citation.answer_end <= len(answer.text)
    return inside and stretch and hit.text[citation.start - hit.start : citation.end - hit.start] == citation.quote
