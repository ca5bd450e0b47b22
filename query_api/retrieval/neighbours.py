"""The chunks beside a hit, in the order of its document, for readers who need what stands around it.

Before it: `search.py`, with the hits to show. After it: `ports.Index`, which holds the texts. Neighbours are those
that the hit's own manifest lists: the same version of the same document, so whoever may read the hit may read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from query_api.retrieval.ports import Index, Live
from query_api.retrieval.visibility import Hit, Neighbour
from schemas.index.manifest import Span


async def with_neighbours(index: Index, live: Live, tenant: str, hits: Sequence[Hit], count: int) -> list[Hit]:
    """The hits with up to `count` neighbours on each side, nearest last before and first after; one question for all.

    A neighbour whose text was swept away meanwhile is left out. Raises IndexUnavailable, NoIndex.
    """
    wanted = dict.fromkeys(span.chunk_id for hit in hits for side in _beside(hit, count) for span in side)
    if not wanted:
        return list(hits)
    texts = await index.texts(live, tenant, list(wanted))
    found = []
    for hit in hits:
        before, after = _beside(hit, count)
        found.append(replace(hit, before=_told(before, texts), after=_told(after, texts)))
    return found


def _beside(hit: Hit, count: int) -> tuple[Sequence[Span], Sequence[Span]]:
    return hit.spans[max(0, hit.place - count) : hit.place], hit.spans[hit.place + 1 : hit.place + 1 + count]


def _told(spans: Sequence[Span], texts: Mapping[str, str]) -> tuple[Neighbour, ...]:
    return tuple(
        Neighbour(span.chunk_id, texts[span.chunk_id], span.start, span.end, span.heading, span.page)
        for span in spans
        if span.chunk_id in texts
    )
