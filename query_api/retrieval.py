"""A search, from question to hits: embed, match, ask the manifests, keep what counts, look further until it is enough.

Before it: `service.py` (who may ask what). After it: `ports.py` (the store, the model) and `visibility.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from query_api.ports import Ask, Candidate, Criteria, Index, Live, Mode, QueryEmbedder
from query_api.visibility import Hit, keys_to_ask, visible
from schemas.index.manifest import Manifest

_FIRST_LOOK = 3
"""Candidates for each hit wanted: mostly some are hidden by their manifests, rarely two thirds."""

_GROWTH = 5
_MOST_CANDIDATES = 3000
_MOST_LOOKS = 4


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

    def __init__(self, index: Index, embedder: QueryEmbedder) -> None:
        self._index = index
        self._embedder = embedder

    async def search(
        self, live: Live, criteria: Criteria, *, query: str, mode: Mode, limit: int, explain: bool = False
    ) -> Found:
        """At most `limit` hits, best first. Raises IndexUnavailable, NoIndex, ModelMismatch, ModelUnavailable.

        Fewer come back if there are no more, or if more than 3,000 candidates would have to be looked through.
        """
        if not criteria.rights.bases:
            return Found((), live.generation.name, 0, 0)
        vector = None if mode == "keyword" else await self._embedder.embed(live.generation, query)
        known: dict[str, list[Manifest]] = {}
        size, looks, second_thoughts = limit * _FIRST_LOOK, 0, False
        while True:
            looks += 1
            candidates = await self._index.candidates(live, criteria, Ask(query, mode, vector, size, explain))
            if second_thoughts:
                known.clear()
            hits, beaten = visible(
                candidates, await self._manifests(live, criteria, candidates, known), criteria.rights
            )
            enough = len(hits) >= limit or looks == _MOST_LOOKS
            more = len(candidates) == size and size < _MOST_CANDIDATES
            # A document that changed between the two questions to the store has its new chunks there by now.
            changed = beaten > 0 and not second_thoughts
            if enough or not (more or changed):
                return Found(tuple(hits[:limit]), live.generation.name, len(candidates), looks)
            second_thoughts = second_thoughts or changed
            if more:
                size = min(size * _GROWTH, _MOST_CANDIDATES)

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
