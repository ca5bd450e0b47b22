"""How far a search looks, and that it looks again when documents change under it."""

from __future__ import annotations

import pytest

from query_api.retrieval.ports import Criteria, Mode, ModelMismatch
from query_api.retrieval.rights import Rights
from query_api.retrieval.search import Found, Retrieval
from tests.unit.query_api.fake_index import LIVE, FakeEmbedder, FakeIndex, candidate, manifest

CRITERIA = Criteria(Rights("acme", {"kb": True}, None))


def whole(documents: int) -> FakeIndex:
    """So many documents of one chunk each, all of them live."""
    names = range(documents)
    held = [candidate(f"acme/kb/{name}", f"c{name}") for name in names]
    return FakeIndex(held, [manifest(f"acme/kb/{name}", f"c{name}") for name in names])


async def look(
    index: FakeIndex, embedder: FakeEmbedder | None = None, *, limit: int = 2, mode: Mode = "hybrid"
) -> Found:
    retrieval = Retrieval(index, embedder or FakeEmbedder())
    return await retrieval.search(LIVE, CRITERIA, query="q", mode=mode, limit=limit)


async def test_a_plain_search_asks_the_store_twice() -> None:
    index = whole(9)

    found = await look(index)

    assert [hit.document_id for hit in found.hits] == ["0", "1"]
    assert (len(index.asks), len(index.fetched)) == (1, 1)


async def test_it_looks_further_until_the_limit_is_reached() -> None:
    hidden = [candidate(f"acme/kb/h{n}", f"h{n}") for n in range(20)]
    shown = [candidate(f"acme/kb/{n}", f"c{n}") for n in range(3)]
    index = FakeIndex(hidden + shown, [manifest(f"acme/kb/{n}", f"c{n}") for n in range(3)])

    found = await look(index)

    assert [hit.document_id for hit in found.hits] == ["0", "1"]
    assert [ask.limit for ask in index.asks] == [6, 30]
    assert not index.fetched[0] & index.fetched[1]


async def test_it_stops_when_nothing_is_left_and_when_it_looked_at_enough() -> None:
    assert (await look(FakeIndex([candidate("acme/kb/h")]))).looks == 1
    endless = FakeIndex([candidate(f"acme/kb/h{n}", f"h{n}") for n in range(10_000)])
    found = await look(endless)
    assert found.hits == ()
    assert max(ask.limit for ask in endless.asks) <= 3000
    assert len(endless.asks) <= 4


async def test_a_document_that_changes_between_the_questions_is_found_in_its_new_version() -> None:
    index = FakeIndex([candidate("acme/kb/d", "old")], [manifest("acme/kb/d", "old")])

    def edit() -> None:
        index.listed.append(manifest("acme/kb/d", "new", major=2))
        index.held[:] = [candidate("acme/kb/d", "new")]
        index.before_manifests = lambda: None

    index.before_manifests = edit

    found = await look(index)

    assert [hit.chunk_id for hit in found.hits] == ["new"]


async def test_keyword_search_needs_no_model() -> None:
    index = FakeIndex([candidate("acme/kb/d")], [manifest("acme/kb/d", "c")])

    found = await look(index, FakeEmbedder(fails=ModelMismatch("other")), mode="keyword")

    assert len(found.hits) == 1
    assert index.asks[0].vector is None


async def test_the_question_is_embedded_with_the_live_generations_model() -> None:
    embedder = FakeEmbedder()

    await look(FakeIndex(), embedder)

    assert embedder.asked == [("model_a", "q")]


async def test_without_a_base_to_look_in_nobody_is_asked() -> None:
    index, embedder = FakeIndex(), FakeEmbedder()

    found = await Retrieval(index, embedder).search(
        LIVE, Criteria(Rights("acme", {}, None)), query="q", mode="hybrid", limit=2
    )

    assert (found.hits, index.asks, embedder.asked) == ((), [], [])


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_never_more_hits_than_asked_for(limit: int) -> None:
    assert len((await look(whole(500), limit=limit)).hits) == limit
