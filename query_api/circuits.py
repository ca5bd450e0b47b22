"""What the query API does while a model is away: it is left alone for a while, and the rest goes on without it.

Before it: `bootstrap.py` puts these around the models. After it: `runtime/breaker.py`, and the models themselves. The
embedding model's breaker is in `query_embedding.py`, Weaviate's in `weaviate_link.py`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

import structlog

from query_api.answering.answers import (
    ANSWER,
    Answer,
    Answerer,
    AnswerLater,
    AnswerMisconfigured,
    AnswerUnavailable,
    at_once,
)
from query_api.retrieval.ports import EMBEDDING, ModelLater, Passing
from query_api.retrieval.reranking import RERANK, Reranker, RerankLater
from query_api.retrieval.visibility import Hit
from query_api.retrieval.weaviate_link import weaviate_breaker
from runtime.breaker import Breaker, CircuitOpen, State

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Circuits:
    """The breakers of one process."""

    weaviate: Breaker
    embedding: Breaker
    rerank: Breaker
    answer: Breaker

    @staticmethod
    def told_to(told: Callable[[str, State], None], clock: Callable[[], float] = time.monotonic) -> Circuits:
        """Fresh ones that show their state there.

        A model's opens after five failures in a row, for a second at first and for a minute at most. Only what passes
        with time counts: a wrong key or a refused question is told at once, each time. Weaviate's opens
        after two, each of which may have taken the whole timeout, and for a second only: without the store there is no
        answer at all, so it must be found at once when it is back.
        """
        return Circuits(
            weaviate=weaviate_breaker(told, clock),
            embedding=Breaker(EMBEDDING, failing=(ModelLater,), told=told, clock=clock, wish=_wished),
            rerank=Breaker(RERANK, failing=(RerankLater,), told=told, clock=clock, wish=_wished),
            answer=Breaker(ANSWER, failing=(AnswerLater,), told=told, clock=clock, wish=_wished),
        )

    @property
    def all(self) -> tuple[Breaker, ...]:
        """Each of them."""
        return (self.weaviate, self.embedding, self.rerank, self.answer)


def _wished(error: Exception) -> float | None:
    """For how long a vendor that failed wants to be left alone, in seconds, where it said so."""
    return error.retry_after_s if isinstance(error, Passing) else None


class SparedReranker:
    """A reranker that is not asked while its circuit is open."""

    def __init__(self, reranker: Reranker, breaker: Breaker) -> None:
        """breaker: RerankLater is its failure."""
        self._reranker = reranker
        self._breaker = breaker

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """As Reranker."""
        try:
            return await self._breaker.call(lambda: self._reranker.scores(query, texts))
        except CircuitOpen as error:
            raise RerankLater(str(error), error.retry_after_s) from error

    async def close(self) -> None:
        """As Reranker."""
        await self._reranker.close()


class SparedAnswerer:
    """An answerer that is not asked while its circuit is open."""

    def __init__(self, answerer: Answerer, breaker: Breaker) -> None:
        """breaker: AnswerLater is its failure."""
        self._answerer = answerer
        self._breaker = breaker

    def identity(self, question: str) -> str:
        """As Answerer."""
        return self._answerer.identity(question)

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        """As Answerer."""
        try:
            return await self._breaker.call(lambda: self._answerer.answer(question, hits))
        except CircuitOpen as error:
            raise AnswerLater(str(error), error.retry_after_s) from error

    async def stream(self, question: str, hits: Sequence[Hit]) -> AsyncGenerator[str | Answer, None]:
        """As Answerer."""
        try:
            with self._breaker.attempt():
                async with aclosing(self._answerer.stream(question, hits)) as parts:
                    async for part in parts:
                        yield part
        except CircuitOpen as error:
            raise AnswerLater(str(error), error.retry_after_s) from error


class FallingBack:
    """An answerer that quotes, and says so, where the model gives none. Outside of the cache: such an answer is for
    this moment.
    """

    def __init__(self, answerer: Answerer, instead: Answerer) -> None:
        """instead: one that cannot fail."""
        self._answerer = answerer
        self._instead = instead

    def identity(self, question: str) -> str:
        """As Answerer."""
        return self._answerer.identity(question)

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        """As Answerer; raises nothing."""
        try:
            return await self._answerer.answer(question, hits)
        except AnswerUnavailable as error:
            return await self._quoted(question, hits, error)

    async def stream(self, question: str, hits: Sequence[Hit]) -> AsyncGenerator[str | Answer, None]:
        """As Answerer. An answer that breaks off after its first stretch cannot be taken back: that raises."""
        begun = False
        try:
            async with aclosing(self._answerer.stream(question, hits)) as parts:
                async for part in parts:
                    begun = True
                    yield part
        except AnswerUnavailable as error:
            if begun:
                raise
            quoted = await self._quoted(question, hits, error)
        else:
            return
        async for part in at_once(quoted):
            yield part

    async def _quoted(self, question: str, hits: Sequence[Hit], error: AnswerUnavailable) -> Answer:
        tell = _log.error if isinstance(error, AnswerMisconfigured) else _log.warning
        tell("answer_failed", error=str(error), hits=len(hits), configuration=isinstance(error, AnswerMisconfigured))
        answer = await self._instead.answer(question, hits)
        return replace(answer, degraded=(*answer.degraded, ANSWER))
