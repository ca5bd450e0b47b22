"""Hits in a better order, by a model that reads question and text together. Fails open: no order is lost to a model.

Before it: `search.py`, which has found the hits. After it: `rerank_models.py` (Cohere, servers with `POST /rerank`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from query_api.retrieval.ports import Passing
from query_api.retrieval.visibility import Hit

RERANK = "rerank"
"""The name of this part: in `degraded`, in `explain`, and in the settings."""

_log = structlog.get_logger(__name__)


class RerankUnavailable(Exception):
    """The model gives no order, or none that can be used. The text may be logged: no secret, no question."""


class RerankLater(Passing, RerankUnavailable):
    """The model is away, busy or slow."""


class Reranker(Protocol):
    """A model that says how well texts answer a question."""

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """A finite number for each text, in the texts' order; more is better. Bounded. Raises RerankUnavailable."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


async def reranked(reranker: Reranker | None, query: str, hits: Sequence[Hit]) -> tuple[list[Hit], bool]:
    """The hits in the model's order, and whether it gave one; else they are as they came.

    A reranked hit's score is the model's; `parts` keeps the one before as `fused`. Equal scores keep their order.
    """
    if not hits:
        return [], True
    if reranker is None:
        return list(hits), False
    try:
        scores = await reranker.scores(query, [_shown(hit) for hit in hits])
    except RerankUnavailable as error:
        tell = _log.warning if isinstance(error, RerankLater) else _log.error
        tell("rerank_failed", error=str(error), hits=len(hits))
        return list(hits), False
    rated = [
        replace(hit, score=score, parts={**hit.parts, "fused": hit.score, RERANK: score})
        for hit, score in zip(hits, scores, strict=True)
    ]
    return sorted(rated, key=lambda hit: -hit.score), True


def checked(results: Iterable[tuple[object, object]], count: int, who: str) -> list[float]:
    """The scores of a reply's pairs (index, score), in the texts' order.

    Raises RerankUnavailable unless each of `count` texts has exactly one, finite score.
    """
    found: dict[int, float] = {}
    for index, score in results:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count or index in found:
            raise RerankUnavailable(f"{who} numbered the texts wrongly")
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise RerankUnavailable(f"{who} gave a score that is no number")
        found[index] = float(score)
    if len(found) != count:
        raise RerankUnavailable(f"{who} gave {len(found)} scores for {count} texts")
    return [found[at] for at in range(count)]


def _shown(hit: Hit) -> str:
    """What the model reads: the text below its title and headings, as a person would see it."""
    return "\n".join([*([hit.title] if hit.title else []), *hit.heading, hit.text])
