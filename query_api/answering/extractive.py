"""The answer that needs no model: it quotes the sentences that answer best.

Before it: `answers.py`, the seam. After it: `sentences.py` chooses, `outgoing.py` makes harmless.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from query_api.answering.answers import NOTHING_FOUND, Answer, Citation, at_once
from query_api.answering.outgoing import Outgoing, addresses
from query_api.answering.sentences import scores, sentences
from query_api.retrieval.visibility import Hit

EXTRACTIVE = "extractive"
_MOST_SENTENCES = 3
_GOOD_ENOUGH = 0.6
"""A sentence is quoted beside the best one if it is worth at least this share of it."""


class Extractive:
    """Answers by quoting: the sentences of the hits that cover the question best."""

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        """At most three sentences in the order of their hits; verbatim, but for what `outgoing.py` takes apart."""
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
        outgoing = Outgoing(addresses(hit.text for hit in hits))
        said, spans = "", []
        for at in sorted(chosen):
            begin = len(said) + (1 if said else 0)
            said = f"{said} {pieces[at][1].text}" if said else pieces[at][1].text
            spans.append((at, begin, len(said)))
        text = outgoing.feed(said) + outgoing.finish()
        citations = []
        for at, begin, end in spans:
            number, sentence = pieces[at]
            start = hits[number].start + sentence.start
            place = outgoing.placed(begin), outgoing.placed(end)
            citations.append(Citation(number, sentence.text, start, start + len(sentence.text), *place))
        return Answer(text, tuple(citations), EXTRACTIVE)

    def identity(self, question: str) -> str:  # noqa: ARG002  # one model, whatever is asked
        """As Answerer."""
        return f"{EXTRACTIVE} sentences={_MOST_SENTENCES} share={_GOOD_ENOUGH}"

    async def stream(self, question: str, hits: Sequence[Hit]) -> AsyncGenerator[str | Answer, None]:
        """As Answerer: in one stretch."""
        async for part in at_once(await self.answer(question, hits)):
            yield part
