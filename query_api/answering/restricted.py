"""Restricted documents go to no model that is not ours: their answer is quoted here, their order stays the store's.

Before it: hits, whose metadata has the label (`retrieval/visibility.py`). After it: whoever writes answers;
`retrieval/search.py` keeps the order.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from query_api.answering.answers import ANSWER, Answer, Answerer, at_once
from query_api.answering.extractive import Extractive
from query_api.retrieval.visibility import Hit


class KeepsRestricted:
    """An Answerer before one that sends out what it is given: with a restricted hit among them, it quotes instead."""

    def __init__(self, model: Answerer) -> None:
        self._model = model
        self._here = Extractive()

    def identity(self, question: str) -> str:
        """As Answerer. Which of the two answers, the hits decide."""
        return self._model.identity(question)

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        """As Answerer."""
        if any(hit.restricted for hit in hits):
            return replace(await self._here.answer(question, hits), degraded=(ANSWER,))
        return await self._model.answer(question, hits)

    async def stream(self, question: str, hits: Sequence[Hit]) -> AsyncGenerator[str | Answer, None]:
        """As Answerer."""
        kept = any(hit.restricted for hit in hits)
        written = at_once(await self.answer(question, hits)) if kept else self._model.stream(question, hits)
        try:
            async for piece in written:
                yield piece
        finally:
            await written.aclose()
