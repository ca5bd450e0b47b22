"""Answers given again without asking the model: only to the same question, from the same hits, under the same rights.

Before it: `service.py`, which has searched already. After it: `key.py` (what is the same), `store.py`
(where they lie), and the answerer, which is asked once by all who ask the same at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import replace

import structlog
from prometheus_client import Counter
from pydantic import TypeAdapter, ValidationError

from query_api.answer_cache.key import answer_key
from query_api.answer_cache.store import AnswerStore, StoreUnavailable
from query_api.answering.answers import Answer, Answerer, AnswerUnavailable, at_once
from query_api.retrieval.rights import Rights
from query_api.retrieval.visibility import Hit

_log = structlog.get_logger(__name__)
_FORM = TypeAdapter(Answer)


class AnswerCache:
    """Of one event loop. requests has the label outcome: hit, miss, error (the store failed, which is a miss)."""

    def __init__(self, store: AnswerStore, requests: Counter) -> None:
        self._store = store
        self._requests = requests
        self._written: dict[str, _Writing] = {}

    def around(self, answerer: Answerer, rights: Rights) -> Answerer:
        """The answerer, for a caller with these rights. Its answers say in `cached` whether the model was spared."""
        return _Cached(self, answerer, rights)

    async def close(self) -> None:
        """Give up what is being written, and let the store go."""
        tasks = [task for writing in list(self._written.values()) if (task := writing.stop()) is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._store.close()

    async def parts(
        self, answerer: Answerer, rights: Rights, question: str, hits: Sequence[Hit], *, streams: bool
    ) -> AsyncGenerator[str | Answer, None]:
        """As Answerer.stream; streams: whether the model is to be asked for a stream, if it is asked."""
        key = answer_key(rights, question, hits, answerer.identity(question))
        writing = self._written.get(key)
        first = writing is None or writing.forsaken
        if writing is None or first:
            self._written[key] = writing = _Writing()
            parts = answerer.stream(question, hits) if streams else _whole(answerer, question, hits)
            writing.start(self._write(key, writing, parts), lambda: self._forget(key, writing))
        else:
            self._requests.labels(outcome="hit").inc()
        async with aclosing(writing.follow()) as followed:
            async for part in followed:
                if isinstance(part, Answer) and (writing.kept or not first):
                    part = replace(part.free(), cached=True)  # noqa: PLW2901  # the same part, as it is told
                yield part

    async def _write(self, key: str, writing: _Writing, parts: AsyncGenerator[str | Answer, None]) -> None:
        """Fill the writing: from the store, else by the model, and keep it then."""
        try:
            async with aclosing(parts):
                kept = await self._kept(key)
                if kept is not None:
                    writing.kept = True
                    parts = at_once(kept)
                async for part in parts:
                    writing.add(part)
            writing.end()
            if kept is None:
                await self._keep(key, writing.parts[-1])
        except Exception as error:  # noqa: BLE001  # everybody who waits is told, as if each had asked alone
            writing.end(error)
        finally:
            self._forget(key, writing)

    def _forget(self, key: str, writing: _Writing) -> None:
        """Nobody joins it any more. Called again when its task is done: it may have been stopped before it began."""
        writing.end(AnswerUnavailable("the answer was given up, for the process ends or nobody waited for it"))
        if self._written.get(key) is writing:
            del self._written[key]

    async def _kept(self, key: str) -> Answer | None:
        try:
            found = await self._store.get(key)
        except StoreUnavailable:
            self._requests.labels(outcome="error").inc()
            return None
        answer = None if found is None else _decoded(found)
        self._requests.labels(outcome="miss" if answer is None else "hit").inc()
        return answer

    async def _keep(self, key: str, last: str | Answer) -> None:
        if not isinstance(last, Answer):
            return
        try:
            await self._store.put(key, _FORM.dump_json(last))
        except (StoreUnavailable, ValueError) as error:  # ValueError: its text has no UTF-8
            _log.warning("answer_not_kept", reason=type(error).__name__)


class _Cached:
    """The Answerer that `around` gives."""

    def __init__(self, cache: AnswerCache, answerer: Answerer, rights: Rights) -> None:
        self._cache = cache
        self._answerer = answerer
        self._rights = rights

    def identity(self, question: str) -> str:
        return self._answerer.identity(question)

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        parts = self._cache.parts(self._answerer, self._rights, question, hits, streams=False)
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Answer):
                    return part
        raise AnswerUnavailable("the answer broke off")

    def stream(self, question: str, hits: Sequence[Hit]) -> AsyncGenerator[str | Answer, None]:
        return self._cache.parts(self._answerer, self._rights, question, hits, streams=True)


async def _whole(answerer: Answerer, question: str, hits: Sequence[Hit]) -> AsyncGenerator[str | Answer, None]:
    async for part in at_once(await answerer.answer(question, hits)):
        yield part


def _decoded(value: bytes) -> Answer | None:
    try:
        return _FORM.validate_json(value, strict=True)
    except ValidationError:
        _log.warning("kept_answer_odd", bytes=len(value))
        return None


class _Writing:
    """One answer while it is written, and all who follow it from its beginning, whenever they come."""

    def __init__(self) -> None:
        self.kept = False
        """True if it comes from the store; known before its first part is."""
        self.ended = False
        self.parts: list[str | Answer] = []
        self._error: Exception | None = None
        self._followers = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, writing: Coroutine[None, None, None], done: Callable[[], None]) -> None:
        """Let it be written, by nobody's request: who asked first may leave while others still wait."""
        self._task = asyncio.create_task(writing)
        self._task.add_done_callback(lambda _: done())

    def stop(self) -> asyncio.Task[None] | None:
        """Stop the writing, which ends a moment later."""
        if self._task is not None:
            self._task.cancel()
        return self._task

    def add(self, part: str | Answer) -> None:
        self.parts.append(part)
        self._tell()

    def end(self, error: Exception | None = None) -> None:
        """Nothing follows. What was ended already stays as it ended."""
        if not self.ended:
            self.ended, self._error = True, error
            self._tell()

    async def follow(self) -> AsyncGenerator[str | Answer, None]:
        """All parts, those to come as they come. Raises what the writing ended with. The last to leave stops it."""
        self._followers += 1
        try:
            at = 0
            while True:
                while at < len(self.parts):
                    at += 1
                    yield self.parts[at - 1]
                if self.ended:
                    break
                await self._news.wait()
            if self._error is not None:
                raise self._error
        finally:
            self._followers -= 1
            if not self._followers and not self.ended:
                self.stop()

    @property
    def forsaken(self) -> bool:
        """True once it was stopped, though it may not have ended yet: nobody may join it."""
        return self._task is not None and self._task.cancelling() > 0

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
