"""A search, from question to hits: embed, match, ask the manifests, keep what counts, look further until it is enough,
then order anew by a model and add neighbours, where that is wanted.

Before it: `service.py` (who may ask what). After it: `ports.py` (the store, the model), `visibility.py`, `caps.py`,
`reranking.py`, `neighbours.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from query_api.retrieval.caps import Caps, capped
from query_api.retrieval.neighbours import with_neighbours
from query_api.retrieval.ports import (
    EMBEDDING,
    Ask,
    Candidate,
    Criteria,
    Index,
    Live,
    Mode,
    ModelLater,
    ModelUnavailable,
    QueryEmbedder,
)
from query_api.retrieval.reranking import RERANK, Reranker, reranked
from query_api.retrieval.visibility import Hit, keys_to_ask, visible
from schemas.index.manifest import Manifest

_FIRST_LOOK = 3
"""Candidates for each hit wanted: mostly some are hidden by their manifests, rarely two thirds."""

_GROWTH = 5
_MOST_CANDIDATES = 3000
_MOST_LOOKS = 4
_NO_CAPS = Caps()
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Found:
    """What a search found. candidates and looks tell how hard it was; degraded names parts that were left out."""

    hits: tuple[Hit, ...]
    generation: str
    candidates: int
    looks: int
    degraded: tuple[str, ...] = ()


class Retrieval:
    """Finds hits. Every wait inside is bounded by the ports."""

    def __init__(
        self,
        index: Index,
        embedder: QueryEmbedder,
        reranker: Reranker | None = None,
        *,
        rerank_depth: int = 50,
        rerank_trusted: bool = False,
    ) -> None:
        self._index = index
        self._embedder = embedder
        self._reranker = reranker
        self._rerank_depth = rerank_depth
        self._rerank_trusted = rerank_trusted

    async def search(
        self,
        live: Live,
        criteria: Criteria,
        *,
        query: str,
        mode: Mode,
        limit: int,
        explain: bool = False,
        caps: Caps = _NO_CAPS,
        rerank: bool | None = None,
        neighbours: int = 0,
    ) -> Found:
        """At most `limit` hits, best first. Raises IndexUnavailable, NoIndex, ModelMismatch, ModelUnavailable.

        Fewer come back if the caps allow no more, or if more than 3,000 candidates would have to be looked through.
        rerank None: if there is a reranker. The reranker chooses among the first `rerank_depth` hits that the caps let
        through; if it was wanted and gave no order, `degraded` says so, and the order is the store's. A hybrid search
        whose embedding model is away is a keyword search, and says so; ModelUnavailable is a vector search's alone.
        The reranker is not asked where one of its hits is restricted, unless it is trusted.
        """
        if not criteria.rights.bases:
            return Found((), live.generation.name, 0, 0)
        wanted = self._reranker is not None if rerank is None else rerank
        depth = max(limit, self._rerank_depth) if wanted and self._reranker is not None else limit
        ask, degraded = await self._embedded(live, Ask(query, mode, None, max(depth, limit * _FIRST_LOOK), explain))
        looked = await self._look(live, criteria, ask, caps, limit)
        hits = list(looked.hits[:depth])
        if wanted:
            kept = not self._rerank_trusted and any(hit.restricted for hit in hits)
            hits, done = await reranked(None if kept else self._reranker, query, hits)
            degraded = degraded if done else (*degraded, RERANK)
        hits = await with_neighbours(self._index, live, criteria.rights.tenant, hits[:limit], neighbours)
        return replace(looked, hits=tuple(hits), degraded=degraded)

    async def _embedded(self, live: Live, ask: Ask) -> tuple[Ask, tuple[str, ...]]:
        """The ask with its vector; without one, by keywords alone, if no model answers and keywords were wanted too."""
        if ask.mode == "keyword":
            return ask, ()
        try:
            return replace(ask, vector=await self._embedder.embed(live.generation, ask.text)), ()
        except ModelUnavailable as error:
            if ask.mode == "vector":
                raise
            tell = _log.warning if isinstance(error, ModelLater) else _log.error
            tell("embedding_failed", error=type(error.__cause__ or error).__name__)
            return replace(ask, mode="keyword"), (EMBEDDING,)

    async def _look(self, live: Live, criteria: Criteria, ask: Ask, caps: Caps, limit: int) -> Found:
        """All hits among the first candidates that hold `limit` of them, capped."""
        known: dict[str, list[Manifest]] = {}
        looks, second_thoughts = 0, False
        while True:
            looks += 1
            candidates = await self._index.candidates(live, criteria, ask)
            if second_thoughts:
                known.clear()
            counting, beaten = visible(
                candidates, await self._manifests(live, criteria, candidates, known), criteria.rights
            )
            hits = capped(counting, caps)
            enough = len(hits) >= limit or looks == _MOST_LOOKS
            more = len(candidates) == ask.limit and ask.limit < _MOST_CANDIDATES
            # A document that changed between the two questions to the store has its new chunks there by now.
            changed = beaten > 0 and not second_thoughts
            if enough or not (more or changed):
                return Found(tuple(hits), live.generation.name, len(candidates), looks)
            second_thoughts = second_thoughts or changed
            if more:
                ask = replace(ask, limit=min(ask.limit * _GROWTH, _MOST_CANDIDATES))

    async def _manifests(
        self, live: Live, criteria: Criteria, candidates: list[Candidate], known: dict[str, list[Manifest]]
    ) -> list[Manifest]:
        """The manifests that decide about the candidates; `known` keeps those of earlier looks."""
        missing = keys_to_ask(candidates) - known.keys()
        if missing:
            fetched = await self._index.manifests(live, criteria.rights.tenant, missing)
            known.update({key: [] for key in missing})
            for manifest in fetched:
                known.setdefault(manifest.document, []).append(manifest)
        return [manifest for manifests in known.values() for manifest in manifests]
