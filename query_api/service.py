"""What the query API does for a caller, apart from HTTP: check, wait, search, answer.

Before it: `routes/`. After it, in this order: `asking/`, `retrieval/`, and `answer_cache/` around `answering/`.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from query_api.answer_cache.cache import AnswerCache
from query_api.answering.answers import NOTHING_FOUND, Answer, Answerer, at_once, verified
from query_api.asking.fair_queue import FairQueue
from query_api.asking.masked_questions import QuestionMasking
from query_api.asking.questions import checked_query
from query_api.asking.waiting import Waits, wait_for
from query_api.circuits import FallingBack
from query_api.models import SearchRequest
from query_api.retrieval.caps import Caps
from query_api.retrieval.filter_keys import FilterKeys, metadata_keys, permitted_keys
from query_api.retrieval.filters import Filter, FilterRefused, Known, parse
from query_api.retrieval.ports import Criteria, Index, Live
from query_api.retrieval.rights import Rights, UnknownBases, rights_of
from query_api.retrieval.search import Found, Retrieval
from runtime.access import KnowledgeBase, Principal
from runtime.metrics import Metrics
from runtime.settings import QueryApi
from runtime.web import audit
from runtime.web.problems import FieldError, Problem

_log = structlog.get_logger(__name__)


Still = Callable[[], Awaitable[Principal]]
"""Who the caller is now. Raises Problem for one that may not ask any more."""


class Bases(Protocol):
    """What is asked of the directory."""

    @property
    def ready(self) -> bool:
        """True once all entries are known."""
        ...

    def bases(self, tenant: str) -> list[KnowledgeBase]:
        """The tenant's knowledge bases."""
        ...


@dataclass(frozen=True)
class Searched:
    """A search's result. rights are those it was searched with; took_s is all of it, retrieval_s without the wait."""

    found: Found
    rights: Rights
    query: str
    took_s: float
    retrieval_s: float


@dataclass(frozen=True)
class Answered:
    """The end of a streamed answer. took_s is all of it, the search included."""

    answer: Answer
    took_s: float


@dataclass
class _Generation:
    """An answer under way: who writes it puts it here."""

    answer: Answer
    took_s: float = 0.0


class QueryService:
    """One for a process."""

    def __init__(
        self,
        *,
        index: Index,
        retrieval: Retrieval,
        answerer: Answerer,
        instead: Answerer | None = None,
        cache: AnswerCache,
        bases: Bases,
        freshness: Waits,
        settings: QueryApi,
        metrics: Metrics,
        masking: QuestionMasking,
        queue: FairQueue,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._index = index
        self._keys = FilterKeys(index)
        self._retrieval = retrieval
        self._answerer = answerer
        self._instead = instead
        self._cache = cache
        self._bases = bases
        self._freshness = freshness
        self._settings = settings
        self._metrics = metrics
        self._masking = masking
        self._queue = queue
        self._clock = clock

    async def search(self, caller: Principal, request: SearchRequest, still: Still) -> Searched:
        """The hits. still tells after the waits who the caller is by then.

        Raises Problem, and the ports' errors, which `app.py` turns into problems.
        """
        started = self._clock()
        searched = await self._search(caller, request, still, started)
        self._completed("/v1/search", searched, searched.took_s, generation_s=0.0, model=None)
        return searched

    async def answer(self, caller: Principal, request: SearchRequest, still: Still) -> tuple[Searched, Answer, float]:
        """The hits, the answer, and the seconds that all took. Raises as search does, and AnswerUnavailable."""
        started = self._clock()
        searched = await self._search(caller, request, still, started)
        with self._generation(searched, started) as generation:
            if searched.found.hits:
                answerer = self._answerer_for(searched.rights)
                generation.answer = await answerer.answer(searched.query, searched.found.hits)
        return searched, generation.answer, generation.took_s

    async def stream(
        self, caller: Principal, request: SearchRequest, still: Still
    ) -> tuple[Searched, AsyncGenerator[str | Answered, None]]:
        """The hits, and the answer's text as it is written, then, last, all of it. Close the generator when done.

        Raises as search does; the generator raises AnswerUnavailable.
        """
        started = self._clock()
        searched = await self._search(caller, request, still, started)
        return searched, self._streamed(searched, started)

    async def _streamed(self, searched: Searched, started: float) -> AsyncGenerator[str | Answered, None]:
        hits = searched.found.hits
        with self._generation(searched, started) as generation:
            answerer = self._answerer_for(searched.rights)
            parts = answerer.stream(searched.query, hits) if hits else at_once(generation.answer)
            async with aclosing(parts):
                async for part in parts:
                    if isinstance(part, Answer):
                        generation.answer = part
                    else:
                        yield part
        yield Answered(generation.answer, generation.took_s)

    @contextmanager
    def _generation(self, searched: Searched, started: float) -> Iterator[_Generation]:
        """Around the writing of one answer: it is verified, counted and logged, also if it breaks off."""
        generation = _Generation(Answer(NOTHING_FOUND, (), "none"))
        begun = self._clock()
        try:
            yield generation
        except BaseException as error:
            self._broke_off(searched, error, self._clock() - begun)
            raise
        generation.answer = verified(generation.answer, searched.found.hits)
        now = self._clock()
        generation.took_s = now - started
        if searched.found.hits and not generation.answer.cached:
            self._metrics.generation_duration_seconds.observe(now - begun)
        self._completed(
            "/v1/query", searched, generation.took_s, generation_s=now - begun, model=generation.answer.model
        )

    def _answerer_for(self, rights: Rights) -> Answerer:
        """The answerer, the cache for these rights around it, and around both the one whose answers are not kept."""
        answerer = self._cache.around(self._answerer, rights)
        return answerer if self._instead is None else FallingBack(answerer, self._instead)

    def rights(self, caller: Principal, wanted: Sequence[str] | None) -> Rights:
        """The caller's reach. Raises Problem 404 for a knowledge base it may not read, 503 if none is known yet."""
        try:
            return rights_of(caller, self._bases.bases(caller.tenant), wanted)
        except UnknownBases as error:
            if not self._bases.ready:
                raise Problem(
                    "unavailable",
                    "The knowledge bases have not been read from Kafka yet.",
                    headers={"Retry-After": "2"},
                ) from error
            known = ", ".join(sorted(rights_of(caller, self._bases.bases(caller.tenant), None).bases)) or "none"
            raise Problem(
                "knowledge-base-not-found",
                f"No knowledge base {', '.join(map(repr, error.names))} that this key may read; it may read: {known}.",
            ) from error

    async def _search(self, caller: Principal, request: SearchRequest, still: Still, started: float) -> Searched:
        query = checked_query(request, self._settings)
        self.rights(caller, request.knowledge_bases)  # a base that may not be read is told at once
        if request.min_position is not None:
            await wait_for(self._freshness, caller.tenant, request.min_position, request.wait_ms)
        async with self._queue.place(caller.tenant):
            # What caller and knowledge bases are now counts, not what they were before the waits.
            caller = await still()
            rights = self.rights(caller, request.knowledge_bases)
            return await self._found(caller, request, rights, query, started)

    async def _found(
        self, caller: Principal, request: SearchRequest, rights: Rights, query: str, started: float
    ) -> Searched:
        begun = self._clock()
        reached = [base for base in self._bases.bases(caller.tenant) if base.name in rights.bases]
        permitted = permitted_keys(reached)
        named = metadata_keys(request.filters, permitted)
        live = await self._index.live(keys=bool(request.filters))
        if not live.keys.keys() >= named:
            live = await self._index.live(anew=True)  # the first document with such a key may be a moment old
        documents = None
        if request.doc_ids is not None:
            documents = tuple(key for name in request.doc_ids for key in rights.documents(name))
        as_stored = self._masking.among(caller.tenant, reached)
        filters = await self._filter(live, rights, request.filters, named, permitted)
        if as_stored.masks:
            # In a thread: a large filter of addresses takes its time, and others have questions, too.
            query, filters = await asyncio.to_thread(as_stored.asked, query, filters)
        found = await self._retrieval.search(
            live,
            Criteria(rights, filters, documents),
            query=query,
            mode=request.mode,
            limit=request.limit,
            explain=request.explain,
            caps=self._caps(request),
            rerank=request.rerank,
            neighbours=request.neighbours,
        )
        ended = self._clock()
        self._metrics.retrieval_duration_seconds.observe(ended - begun)
        self._metrics.query_results.observe(len(found.hits))
        # Before anything is answered: a caller that goes away in the middle of a stream has seen them, too.
        seen = dict.fromkeys(f"{hit.knowledge_base}/{hit.document_id}" for hit in found.hits)
        audit.note(**_about(query), documents=list(seen))
        return Searched(found, rights, query, ended - started, ended - begun)

    def _caps(self, request: SearchRequest) -> Caps:
        """The caps that the caller asks for, else the configured ones; who names documents wants all of them."""
        per_document = 0 if request.doc_ids is not None else self._settings.per_document
        return Caps(
            per_document if request.per_document is None else request.per_document,
            self._settings.per_source if request.per_source is None else request.per_source,
            request.distinct,
        )

    async def _filter(
        self,
        live: Live,
        rights: Rights,
        raw: dict[str, object] | None,
        named: set[str],
        permitted: frozenset[str] | None,
    ) -> Filter | None:
        """named: what raw may use of documents' own keys. Raises Problem 422."""
        if not raw:
            return None
        try:
            return parse(raw, Known(await self._keys.known(live, rights, named), rights.documents))
        except FilterRefused as error:
            fix = await self._keys.hint(live, rights, permitted) if error.unknown else error.fix
            wrong = FieldError(error.field, error.message, fix)
            raise Problem("validation-failed", f"{error.field} {error.message}: {fix}.", errors=[wrong]) from error

    def _broke_off(self, searched: Searched, error: BaseException, after_s: float) -> None:
        """Log an answer that did not come to its end: the model failed, or the caller went away."""
        _log.warning(
            "answer_broke_off",
            route="/v1/query",
            error=type(error).__name__,
            generation_ms=round(after_s * 1000, 1),
            **_about(searched.query),
        )

    def _completed(
        self, route: str, searched: Searched, took_s: float, *, generation_s: float, model: str | None
    ) -> None:
        """Count and log: the query itself appears nowhere, only its hash and length."""
        self._metrics.query_duration_seconds.labels(route=route).observe(took_s)
        about = _about(searched.query)
        _log.info(
            "query_completed",
            route=route,
            latency_ms=round(took_s * 1000, 1),
            retrieval_ms=round(searched.retrieval_s * 1000, 1),
            generation_ms=round(generation_s * 1000, 1),
            results=len(searched.found.hits),
            candidates=searched.found.candidates,
            model=model,
            **about,
        )
        if took_s * 1000 > self._settings.slow_query_ms:
            _log.warning(
                "slow_query",
                route=route,
                latency_ms=round(took_s * 1000, 1),
                threshold_ms=self._settings.slow_query_ms,
                **about,
            )


def _about(query: str) -> dict[str, str | int]:
    """What may be told of a query."""
    return {"query_hash": hashlib.sha256(query.encode()).hexdigest()[:16], "query_length": len(query)}
