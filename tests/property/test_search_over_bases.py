"""A search over several knowledge bases gives what one that held all of their documents would give.

Held against a store that ranks for itself; `tests/integration/test_search.py` holds the same against a real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from query_api.retrieval.caps import Caps
from query_api.retrieval.ports import Ask, Candidate, Criteria, Live
from query_api.retrieval.rights import Rights
from query_api.retrieval.search import Retrieval
from query_api.retrieval.visibility import Hit
from schemas.records import document_key, split_document_key
from tests.unit.query_api.fake_index import LIVE, FakeEmbedder, FakeIndex, candidate, manifest

BASES = ("a", "b", "c", "d")


@dataclass(frozen=True)
class Doc:
    """One document with the scores of its chunks. hidden: its manifest lists none of them."""

    base: str
    scores: tuple[int, ...]
    source: int
    hidden: bool


class RankingIndex(FakeIndex):
    """Only chunks of the bases in reach, best first, ties by text."""

    async def candidates(self, live: Live, criteria: Criteria, ask: Ask) -> list[Candidate]:
        reach = [one for one in self.held if split_document_key(one.document)[1] in criteria.rights.bases]
        return sorted(reach, key=lambda one: (-one.score, one.text))[: ask.limit]


def index_of(docs: Sequence[Doc]) -> RankingIndex:
    index = RankingIndex()
    for number, doc in enumerate(docs):
        key = document_key("acme", doc.base, f"d{number}")
        names = [f"{number:03}-{at}" for at in range(len(doc.scores))]
        index.held += [
            replace(candidate(key, name, text=f"text {name}", score=score / 10), source=f"s{doc.source}")
            for name, score in zip(names, doc.scores, strict=True)
        ]
        index.listed.append(manifest(key, *(["other"] if doc.hidden else names), source=f"s{doc.source}"))
    return index


def found(index: RankingIndex, bases: Sequence[str], limit: int, caps: Caps) -> list[Hit]:
    criteria = Criteria(Rights("acme", dict.fromkeys(bases, True), None))
    search = Retrieval(index, FakeEmbedder()).search(LIVE, criteria, query="q", mode="hybrid", limit=limit, caps=caps)
    return list(asyncio.run(search).hits)


def told(hits: Sequence[Hit]) -> list[tuple[str, str, float]]:
    return [(hit.document_id, hit.chunk_id, hit.score) for hit in hits]


_DOCS = st.lists(
    st.builds(
        Doc,
        st.sampled_from(BASES),
        st.lists(st.integers(0, 9), min_size=1, max_size=6).map(tuple),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=25,
)
_REACH = st.sets(st.sampled_from(BASES), min_size=1)
_CAPS = st.builds(Caps, st.integers(0, 3), st.integers(0, 5))


@given(_DOCS, _REACH, st.integers(1, 12), _CAPS)
def test_bases_together_rank_as_one(docs: list[Doc], reach: set[str], limit: int, caps: Caps) -> None:
    one = [replace(doc, base="one") if doc.base in reach else replace(doc, base="else") for doc in docs]

    several = found(index_of(docs), sorted(reach), limit, caps)

    assert told(several) == told(found(index_of(one), ["one"], limit, caps))
    assert {hit.knowledge_base for hit in several} <= reach


@given(_DOCS, _REACH, st.integers(1, 12))
def test_the_best_of_all_are_the_best_of_each_base_merged(docs: list[Doc], reach: set[str], limit: int) -> None:
    index = index_of(docs)

    each = [hit for base in sorted(reach) for hit in found(index, [base], limit, Caps())]

    merged = sorted(each, key=lambda hit: (-hit.score, hit.text))[:limit]
    assert told(found(index, sorted(reach), limit, Caps())) == told(merged)


@given(_DOCS, st.integers(1, 12), _CAPS)
def test_the_limit_is_filled_whenever_there_is_enough(docs: list[Doc], limit: int, caps: Caps) -> None:
    index = index_of(docs)

    everything = found(index, BASES, 1000, caps)

    assert told(found(index, BASES, limit, caps)) == told(everything[:limit])
