"""How many hits one document and one source may have, and that a search still fills what the caller asked for."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.retrieval.caps import Caps, capped
from query_api.retrieval.ports import Criteria
from query_api.retrieval.rights import Rights
from query_api.retrieval.search import Retrieval
from query_api.retrieval.visibility import Hit
from runtime.settings import QueryApi
from tests.unit.query_api.fake_index import LIVE, FakeEmbedder, FakeIndex, candidate, manifest
from tests.unit.query_api.fakes import app_around


def hit(document: int, text: str = "", *, sources: int = 3) -> Hit:
    """A document has one source, as its newest manifest has."""
    return Hit(
        document_id=str(document),
        knowledge_base="kb",
        chunk_id=text,
        text=text,
        title=None,
        score=1.0,
        start=0,
        end=len(text),
        heading=(),
        page=None,
        metadata={},
        source=f"source {document % sources}",
        version="v",
        parts={},
    )


_HITS = st.lists(st.builds(hit, st.integers(0, 8), st.text("abc ", min_size=1, max_size=3)), max_size=40)
_CAPS = st.builds(Caps, st.integers(0, 4), st.integers(0, 6), st.booleans())


@given(_HITS, _CAPS)
def test_no_cap_is_broken_and_nothing_is_left_out_without_one(hits: list[Hit], caps: Caps) -> None:
    kept = capped(hits, caps)

    documents, sources = Counter(one.document_id for one in kept), Counter(one.source for one in kept)
    texts = [(None if caps.distinct else one.document_id, " ".join(one.text.split())) for one in kept]
    assert not caps.per_document or all(count <= caps.per_document for count in documents.values())
    assert not caps.per_source or all(count <= caps.per_source for count in sources.values())
    assert len(texts) == len(set(texts))
    for at, left in enumerate(hits):
        if left in kept:
            continue
        before = capped(hits[:at], caps)
        said = {" ".join(one.text.split()) for one in before if caps.distinct or one.document_id == left.document_id}
        assert (
            " ".join(left.text.split()) in said
            or sum(one.document_id == left.document_id for one in before) == caps.per_document > 0
            or sum(one.source == left.source for one in before) == caps.per_source > 0
        )


@given(_HITS, _CAPS)
def test_the_order_is_kept_and_capping_twice_is_capping_once(hits: list[Hit], caps: Caps) -> None:
    kept = capped(hits, caps)

    positions = iter(hits)
    assert all(any(one is other for other in positions) for one in kept)
    assert capped(kept, caps) == kept


def corpus(documents: int, chunks: int) -> FakeIndex:
    """The best matches are all chunks of the first document, then those of the second, and so on."""
    held, listed = [], []
    for number in range(documents):
        key, names = f"acme/handbook/{number}", [f"{number}-{at}" for at in range(chunks)]
        held += [candidate(key, name, text=f"text {name}") for name in names]
        listed.append(manifest(key, *names, source=f"source {number}"))
    return FakeIndex(held, listed)


async def found_in(index: FakeIndex, caps: Caps, limit: int) -> list[str]:
    criteria = Criteria(Rights("acme", {"handbook": True}, None))
    found = await Retrieval(index, FakeEmbedder()).search(
        LIVE, criteria, query="q", mode="hybrid", limit=limit, caps=caps
    )
    return [hit.chunk_id for hit in found.hits]


async def test_a_search_looks_further_until_the_capped_hits_fill_the_limit() -> None:
    index = corpus(4, 50)

    assert await found_in(index, Caps(per_document=2), 5) == ["0-0", "0-1", "1-0", "1-1", "2-0"]
    assert [ask.limit for ask in index.asks] == [15, 75, 375]


async def test_a_flooded_source_has_no_more_hits_than_the_cap_says() -> None:
    flood = [candidate(f"acme/handbook/x{n}", f"x{n}", text=f"flood {n}") for n in range(200)]
    honest = [candidate("acme/handbook/h", "h", text="honest")]
    listed = [manifest(f"acme/handbook/x{n}", f"x{n}", source="open") for n in range(200)]
    index = FakeIndex(flood + honest, [*listed, manifest("acme/handbook/h", "h", source="official")])

    assert await found_in(index, Caps(per_source=2), 3) == ["x0", "x1", "h"]


async def test_one_document_alone_ends_the_search_after_its_cap() -> None:
    index = corpus(1, 5000)

    assert await found_in(index, Caps(per_document=3), 5) == ["0-0", "0-1", "0-2"]
    assert len(index.asks) <= 4


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({}, 3),
        ({"per_document": 1}, 1),
        ({"per_document": 0}, 5),
        ({"doc_ids": ["0"]}, 5),
        ({"doc_ids": ["0"], "per_document": 2}, 2),
        ({"per_document": 0, "per_source": 4}, 4),
    ],
)
async def test_over_http_the_setting_holds_unless_the_caller_says_otherwise(
    body: dict[str, object], count: int
) -> None:
    client = app_around(corpus(1, 9), FakeEmbedder(), settings=QueryApi(per_document=3)).client

    answered = await client.post("/v1/search", json={"query": "text", **body})

    assert len(answered.json()["hits"]) == count


async def test_a_text_in_two_documents_is_two_hits_unless_each_text_is_wanted_once() -> None:
    held = [candidate(f"acme/handbook/{name}", name, text="the same words") for name in ("a", "b")]
    index = FakeIndex(held, [manifest(f"acme/handbook/{name}", name) for name in ("a", "b")])
    client = app_around(index, FakeEmbedder()).client

    plain = (await client.post("/v1/search", json={"query": "text"})).json()["hits"]
    distinct = (await client.post("/v1/search", json={"query": "text", "distinct": True})).json()["hits"]

    assert [[hit["document_id"] for hit in hits] for hits in (plain, distinct)] == [["a", "b"], ["a"]]
