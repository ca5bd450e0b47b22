"""The read path against a real Weaviate: which chunks an answer may hold, whatever state the writers left behind."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from httpx_sse import EventSource

from query_api.retrieval.weaviate_index import WeaviateIndex
from query_api.retrieval.weaviate_link import WeaviateLink
from runtime.access import SCOPES, KnowledgeBase
from tests.integration.index_writer import IndexWriter, Version, WordEmbedder
from tests.integration.servers import WeaviateServer
from tests.unit.query_api.fakes import FakeDirectory, Parts, api_key, app_around

pytestmark = pytest.mark.real

KEYS = {"year": "number", "team": "text", "tags": "text[]", "draft": "boolean"}


@pytest.fixture
def writer(weaviate_server: WeaviateServer) -> Iterator[IndexWriter]:
    made = IndexWriter(weaviate_server, keys=KEYS, tenants=["acme", "globex"])
    yield made
    made.close()


@pytest.fixture
async def api(weaviate_server: WeaviateServer, writer: IndexWriter) -> AsyncIterator[Parts]:
    link = WeaviateLink(weaviate_server.url, weaviate_server.grpc, weaviate_server.key, timeout_s=5)
    directory = FakeDirectory(
        known=[
            api_key("tw_admin", scopes=SCOPES),
            api_key("tw_reader", roles={"handbook": "viewer"}),
            api_key("tw_hr", groups=("group:hr",)),
            api_key("tw_globex", tenant="globex", scopes=SCOPES),
            api_key("tw_nowhere", tenant="unheard-of", scopes=SCOPES),
        ],
        held=[
            KnowledgeBase("acme", "handbook"),
            KnowledgeBase("acme", "secrets", absent_access="nobody"),
            KnowledgeBase("globex", "handbook"),
            KnowledgeBase("unheard-of", "handbook"),
        ],
    )
    parts = app_around(WeaviateIndex(link, alias=writer.alias), WordEmbedder(), directory=directory)
    yield parts
    await parts.client.aclose()
    await link.close()


async def search(api: Parts, query: str, *, key: str = "tw_admin", **more: Any) -> list[dict[str, Any]]:
    answered = await api.client.post(
        "/v1/search", json={"query": query, **more}, headers={"Authorization": f"Bearer {key}"}
    )
    assert answered.status_code == 200, answered.text
    hits: list[dict[str, Any]] = answered.json()["hits"]
    return hits


async def ids(api: Parts, query: str, **more: Any) -> list[str]:
    return sorted(hit["document_id"] for hit in await search(api, query, **more))


@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
async def test_every_mode_finds_the_chunk_and_says_where_it_stands(api: Parts, writer: IndexWriter, mode: str) -> None:
    writer.write(
        Version("leave", ["parental leave is forty weeks", "sick notes go to the office"], 1, title="Leave"),
        Version("food", ["the canteen opens at noon"], 2),
    )

    best = (await search(api, "parental leave weeks", mode=mode, limit=1))[0]

    assert best["document_id"] == "leave"
    assert best["text"] == "parental leave is forty weeks"
    assert (best["start"], best["end"]) == (0, len("parental leave is forty weeks"))
    assert best["heading"] == ["Top", "leave"]
    assert best["page"] == 3
    assert best["title"] == "Leave"
    assert best["source"] == "shop"
    assert best["version"] == "cdc/shop@0001.1.00000000000000000001"
    assert "vector" not in best
    assert "explain" not in best


async def test_explain_tells_both_legs_of_a_hybrid_score(api: Parts, writer: IndexWriter) -> None:
    writer.write(Version("a", ["alpha beta"], 1), Version("b", ["gamma delta"], 2))

    best = (await search(api, "alpha", explain=True))[0]

    assert {"keyword", "vector"} <= best["explain"].keys()


async def test_the_newest_manifest_wins_whatever_was_written_last(api: Parts, writer: IndexWriter) -> None:
    new = Version("plan", ["budget is nine"], 20, title="new")
    writer.write(new, Version("plan", ["budget is five"], 10, title="old"))

    hits = await search(api, "budget")

    assert [(hit["text"], hit["title"]) for hit in hits] == [("budget is nine", "new")]


async def test_a_superseded_manifest_decides_nothing(api: Parts, writer: IndexWriter) -> None:
    only = Version("plan", ["budget is nine"], 20)
    writer.write(only)
    writer.supersede(only)

    assert await search(api, "budget") == []


async def test_a_grave_hides_the_document_though_its_chunks_are_still_there(api: Parts, writer: IndexWriter) -> None:
    writer.write(Version("plan", ["budget is nine"], 1), Version("plan", [], 2, grave=True))

    assert await search(api, "budget") == []


async def test_a_late_old_version_cannot_bring_a_deleted_document_back(api: Parts, writer: IndexWriter) -> None:
    writer.write(Version("plan", [], 5, grave=True), Version("plan", ["budget is nine"], 3))

    assert await search(api, "budget") == []


async def test_a_version_without_its_manifest_is_invisible_and_the_old_one_stays_whole(
    api: Parts, writer: IndexWriter
) -> None:
    writer.write(Version("plan", ["budget is five", "and the year is long"], 1))
    writer.write_chunks(Version("plan", ["budget is nine", "and the year is short"], 2))
    writer.write_chunks(Version("other", ["budget of a document nobody committed"], 3))

    assert {hit["text"] for hit in await search(api, "budget year", limit=10)} == {
        "budget is five",
        "and the year is long",
    }


async def test_a_barrier_hides_what_is_older_of_its_source_and_nothing_else(api: Parts, writer: IndexWriter) -> None:
    writer.write(
        Version("before", ["budget one"], 10),
        Version("after", ["budget two"], 30),
        Version("elsewhere", ["budget three"], 10, source="wiki", stream="cdc/wiki"),
    )
    writer.write_barrier("shop", 20)

    assert await ids(api, "budget", limit=10) == ["after", "elsewhere"]


async def test_a_retired_chunk_is_hidden_even_while_a_manifest_lists_it(api: Parts, writer: IndexWriter) -> None:
    version = Version("plan", ["budget is nine", "budget is late"], 1)
    writer.write(version)
    writer.retire(version, "budget is nine")

    assert [hit["text"] for hit in await search(api, "budget")] == ["budget is late"]


async def test_a_tenant_never_sees_another_ones_documents(api: Parts, writer: IndexWriter) -> None:
    writer.write(Version("ours", ["budget is nine"], 1), Version("theirs", ["budget is five"], 1, tenant="globex"))

    assert await ids(api, "budget") == ["ours"]
    assert await ids(api, "budget", key="tw_globex") == ["theirs"]
    found = await api.client.get("/v1/documents/ours", headers={"Authorization": "Bearer tw_globex"})
    assert found.status_code == 404


async def test_a_tenant_that_was_never_indexed_finds_nothing(api: Parts) -> None:
    assert await search(api, "budget", key="tw_nowhere") == []
    stats = await api.client.get("/v1/stats", headers={"Authorization": "Bearer tw_nowhere"})
    assert stats.json()["chunks"] == 0


async def test_access_lists_and_knowledge_bases_keep_hits_from_those_they_do_not_name(
    api: Parts, writer: IndexWriter
) -> None:
    writer.write(
        Version("open", ["budget open"], 1),
        Version("hr-only", ["budget hr"], 2, access=("group:hr",)),
        Version("for-reader", ["budget reader"], 3, access=("tw_reader",)),
        Version("for-nobody", ["budget nobody"], 4, access=()),
        Version("unlisted", ["budget unlisted"], 5, knowledge_base="secrets"),
        Version("listed", ["budget listed"], 6, knowledge_base="secrets", access=("group:hr",)),
    )

    assert await ids(api, "budget", key="tw_reader", limit=10) == ["for-reader", "open"]
    assert await ids(api, "budget", key="tw_hr", limit=10) == ["hr-only", "listed", "open"]
    everything = ["for-nobody", "for-reader", "hr-only", "listed", "open", "unlisted"]
    assert await ids(api, "budget", key="tw_admin", limit=10) == everything
    assert await ids(api, "budget", key="tw_hr", knowledge_bases=["secrets"]) == ["listed"]
    refused = await api.client.post(
        "/v1/search",
        json={"query": "budget", "knowledge_bases": ["secrets"]},
        headers={"Authorization": "Bearer tw_reader"},
    )
    assert refused.status_code == 404
    assert refused.json()["type"] == "/problems/knowledge-base-not-found"


async def test_a_revoke_holds_from_the_manifest_on_though_the_chunk_still_admits(
    api: Parts, writer: IndexWriter
) -> None:
    before = Version("plan", ["budget is nine"], 1, access=("tw_reader",))
    writer.write(before)
    assert await ids(api, "budget", key="tw_reader") == ["plan"]
    revoked = Version("plan", [], 2, access=("group:hr",))
    listing_the_old_chunk = before.manifest()
    manifest = type(listing_the_old_chunk)(
        **{**vars(revoked.manifest()), "spans": listing_the_old_chunk.spans, "access": ("group:hr",)}
    )
    writer.write_manifest(manifest, "acme", "handbook")

    assert await ids(api, "budget", key="tw_reader") == []
    assert await ids(api, "budget", key="tw_admin") == ["plan"]


@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
async def test_several_bases_are_ranked_as_one_that_holds_all_their_documents(
    api: Parts, writer: IndexWriter, mode: str
) -> None:
    words = ["budget", "leave", "canteen", "office", "travel", "parental", "weeks", "forty", "notes"]
    draw = random.Random(7)
    texts = [f"{' '.join(draw.choices(words, k=draw.randrange(3, 12)))} number {n}" for n in range(60)]
    for number, text in enumerate(texts):
        base = "handbook" if number % 3 else "secrets"
        writer.write(
            Version(f"d{number}", [text], 1, knowledge_base=base),
            Version(f"d{number}", [text], 1, tenant="globex"),
        )

    for query in ("parental leave weeks", "travel budget", "canteen"):
        asked = {"mode": mode, "limit": 20}
        several = await search(api, query, knowledge_bases=["handbook", "secrets"], **asked)
        one = await search(api, query, key="tw_globex", **asked)

        assert {hit["knowledge_base"] for hit in several} == {"handbook", "secrets"}
        assert [hit["score"] for hit in several] == pytest.approx([hit["score"] for hit in one], abs=1e-5)
        # What shares the last score may be cut anywhere.
        last = several[-1]["score"] + 1e-5
        assert {hit["text"] for hit in several if hit["score"] > last} == {
            hit["text"] for hit in one if hit["score"] > last
        }


@pytest.mark.parametrize("mode", ["hybrid", "vector", "keyword"])
async def test_explain_names_the_parts_of_every_mode(api: Parts, writer: IndexWriter, mode: str) -> None:
    writer.write(Version("a", ["alpha beta"], 1), Version("b", ["gamma delta"], 2))

    best = (await search(api, "alpha", explain=True, mode=mode))[0]

    assert best["explain"].keys() >= ({"keyword", "vector"} if mode == "hybrid" else {mode})


async def test_neighbours_are_the_chunks_beside_a_hit_in_its_newest_version(api: Parts, writer: IndexWriter) -> None:
    writer.write(
        Version("plan", ["first old", "budget is five", "last old"], 1),
        Version("plan", ["opening words", "budget is nine", "closing words", "the end"], 2),
    )

    (hit,) = await search(api, "budget", mode="keyword", neighbours=2)

    beside = {side: [chunk["text"] for chunk in hit["neighbours"][side]] for side in ("before", "after")}
    assert beside == {"before": ["opening words"], "after": ["closing words", "the end"]}


async def test_caps_hold_and_the_limit_is_still_filled(api: Parts, writer: IndexWriter) -> None:
    writer.write(Version("flood", [f"budget budget number {n}" for n in range(40)], 1, source="open"))
    writer.write(*(Version(f"d{n}", [f"there is also a budget for department {n}"], 1) for n in range(6)))

    per_document = await search(api, "budget", limit=5, mode="keyword", per_document=2)
    per_source = await search(api, "budget", limit=5, mode="keyword", per_document=0, per_source=1)

    assert [hit["document_id"] == "flood" for hit in per_document] == [True, True, False, False, False]
    assert sorted(hit["source"] for hit in per_source) == ["open", "shop"]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ({"year": 2020}, ["a"]),
        ({"year": {"eq": 2024}}, ["b"]),
        ({"year": {"ne": 2020}}, ["b", "c"]),
        ({"year": {"gt": 2020}}, ["b"]),
        ({"year": {"gte": 2020}}, ["a", "b"]),
        ({"year": {"lt": 2024}}, ["a"]),
        ({"year": {"lte": 2024, "gt": 2019.5}}, ["a", "b"]),
        ({"year": {"in": [2020, 1999]}}, ["a"]),
        ({"year": {"nin": [2020]}}, ["b", "c"]),
        ({"team": "Blue Sky"}, ["a"]),
        ({"team": "blue sky"}, []),
        ({"team": {"gt": "M"}}, ["b"]),
        ({"tags": "x"}, ["a", "b"]),
        ({"tags": {"in": ["y", "z"]}}, ["a"]),
        ({"tags": {"nin": ["y"]}}, ["b", "c"]),
        ({"draft": True}, ["b"]),
        ({"draft": {"ne": True}}, ["a", "c"]),
        ({"source": "wiki"}, ["c"]),
        ({"document_id": {"in": ["a", "c", "zzz"]}}, ["a", "c"]),
        ({"document_id": {"ne": "a"}}, ["b", "c"]),
        ({"document_id": "zzz"}, []),
        ({"or": [{"year": 2020}, {"source": "wiki"}]}, ["a", "c"]),
        ({"and": [{"tags": "x"}, {"or": [{"draft": True}, {"year": 1}]}]}, ["b"]),
        ({"year": 2020, "team": "Red"}, []),
    ],
)
async def test_each_operator_of_a_filter_keeps_what_it_says(
    api: Parts, writer: IndexWriter, filters: dict[str, Any], wanted: list[str]
) -> None:
    writer.write(
        Version("a", ["budget a"], 1, metadata={"year": 2020, "team": "Blue Sky", "tags": ["x", "y"], "draft": False}),
        Version("b", ["budget b"], 2, metadata={"year": 2024, "team": "Red", "tags": ["x"], "draft": True}),
        Version("c", ["budget c"], 3, source="wiki", stream="cdc/wiki"),
    )

    assert await ids(api, "budget", limit=10, filters=filters) == wanted


async def test_an_unknown_filter_key_is_refused_with_the_tenants_own_keys(api: Parts, writer: IndexWriter) -> None:
    writer.write(
        Version("a", ["budget a"], 1, metadata={"year": 2020}),
        Version("b", ["budget b"], 1, tenant="globex", metadata={"team": "acquisitions"}),
    )

    refused = await api.client.post("/v1/search", json={"query": "budget", "filters": {"colour": "red"}})

    assert refused.status_code == 422
    (wrong,) = refused.json()["errors"]
    assert wrong["field"] == "filters.colour"
    assert wrong["fix"] == "use one of document_id, source, year"


@pytest.mark.parametrize(("key", "value"), [("year", 2020), ("team", "acquisitions"), ("tags", "x"), ("draft", True)])
async def test_a_key_of_another_tenant_or_out_of_reach_is_as_unknown_as_none(
    api: Parts, writer: IndexWriter, key: str, value: Any
) -> None:
    metadata = {key: [value] if key == "tags" else value}
    writer.write(
        Version("a", ["budget a"], 1),
        Version("b", ["budget b"], 1, tenant="globex", metadata=metadata),
    )

    async def asked(name: str, caller: str = "tw_reader") -> tuple[int, str]:
        answered = await api.client.post(
            "/v1/search",
            json={"query": "budget", "filters": {name: value}},
            headers={"Authorization": f"Bearer {caller}"},
        )
        body = answered.json()
        return answered.status_code, str(body.get("errors", body.get("hits"))).replace(name, "KEY")

    assert await asked(key) == await asked("nobodys")
    assert (await asked(key))[0] == 422
    writer.write(Version("c", ["budget c"], 2, metadata=metadata, access=("group:hr",)))
    assert (await asked(key))[0] == 422
    assert (await asked(key, "tw_hr"))[0] == 200
    writer.write(Version("d", ["budget d"], 3, metadata=metadata))
    status, hits = await asked(key)
    assert status == 200
    assert "'document_id': 'd'" in hits
    assert "'document_id': 'c'" not in hits


async def test_doc_ids_keep_the_search_to_these_documents(api: Parts, writer: IndexWriter) -> None:
    writer.write(*(Version(name, [f"budget {name}"], 1) for name in ("a", "b", "c/d e")))

    assert await ids(api, "budget", doc_ids=["b", "c/d e", "zzz"]) == ["b", "c/d e"]


async def test_hidden_candidates_do_not_use_up_the_limit(api: Parts, writer: IndexWriter) -> None:
    writer.write_chunks(Version("half", [f"budget budget number {n}" for n in range(40)], 9))
    writer.write(*(Version(f"d{n}", [f"there is also a budget for department {n}"], 1) for n in range(6)))

    found = await ids(api, "budget", limit=5, mode="keyword")

    assert len(found) == 5
    assert "half" not in found


async def test_a_document_shows_its_newest_version_with_all_chunks_in_order(api: Parts, writer: IndexWriter) -> None:
    writer.write(
        Version("a/b c", ["old text"], 1),
        Version("a/b c", ["first part", "second part"], 2, title="T", metadata={"year": 2020}, access=("group:hr",)),
    )

    found = (await api.client.get("/v1/documents/a/b c", params={"knowledge_base": "handbook"})).json()

    assert found["version"] == "cdc/shop@0001.1.00000000000000000002"
    assert found["metadata"] == {"year": 2020}
    assert [(chunk["text"], chunk["start"]) for chunk in found["chunks"]] == [("first part", 0), ("second part", 12)]
    assert found["chunk_count"] == 2
    denied = await api.client.get("/v1/documents/a/b c", headers={"Authorization": "Bearer tw_reader"})
    assert denied.status_code == 404
    unknown = await api.client.get("/v1/documents/zzz")
    assert unknown.json()["type"] == "/problems/document-not-found"


async def test_an_answer_quotes_exactly_what_stands_at_its_offsets(api: Parts, writer: IndexWriter) -> None:
    first, second = "Leave is generous here. Parental leave lasts forty weeks.", "Notes go to the office."
    writer.write(Version("leave", [first, second], 1))

    answered = (await api.client.post("/v1/query", json={"query": "How many weeks is parental leave?"})).json()

    assert answered["model"] == "extractive"
    assert "Parental leave lasts forty weeks." in answered["answer"]
    document = f"{first}\n\n{second}"
    assert answered["citations"]
    for citation in answered["citations"]:
        assert document[citation["start"] : citation["end"]] == citation["quote"]
        assert answered["answer"][citation["answer_start"] : citation["answer_end"]] == citation["quote"]


async def test_a_streamed_answer_ends_with_all_that_the_json_answer_holds(api: Parts, writer: IndexWriter) -> None:
    writer.write(Version("leave", ["Leave is generous here. Parental leave lasts forty weeks."], 1))
    question = {"query": "How many weeks is parental leave?"}

    whole = (await api.client.post("/v1/query", json=question)).json()
    streamed = await api.client.post("/v1/query", json=question, headers={"Accept": "text/event-stream"})

    events = list(EventSource(streamed).iter_sse())
    assert [event.event for event in events] == ["hits", "delta", "done"]
    done = json.loads(events[-1].data)
    for each in (whole, done):
        del each["took_ms"], each["cached"]
    # Each answer has a name of its own, for feedback on it.
    assert done.pop("answer_id") != whole.pop("answer_id")
    assert done == whole
    assert done["citations"]


async def test_stats_count_live_documents_and_chunks(api: Parts, writer: IndexWriter) -> None:
    gone = Version("gone", ["budget gone"], 1)
    writer.write(Version("a", ["one", "two"], 1), Version("b", ["three"], 1, access=("group:hr",)), gone)
    writer.supersede(gone)
    writer.retire(gone, "budget gone")
    writer.write(Version("gone", [], 2, grave=True))

    stats = (await api.client.get("/v1/stats")).json()
    seen_by_reader = (await api.client.get("/v1/stats", headers={"Authorization": "Bearer tw_reader"})).json()

    assert (stats["documents"], stats["chunks"]) == (2, 3)
    assert (seen_by_reader["documents"], seen_by_reader["chunks"]) == (None, 2)
    assert stats["generation"] == writer.generation.name


async def test_no_alias_is_told_as_no_index(weaviate_server: WeaviateServer) -> None:
    link = WeaviateLink(weaviate_server.url, weaviate_server.grpc, weaviate_server.key, timeout_s=5)
    parts = app_around(WeaviateIndex(link, alias="NobodyMadeThis"), WordEmbedder())

    answered = await parts.client.post("/v1/search", json={"query": "budget"})

    assert answered.status_code == 503
    assert answered.json()["type"] == "/problems/no-index"
    assert "Retry-After" in answered.headers
    await link.close()


async def test_a_store_that_is_away_is_told_at_once_and_found_again(
    weaviate_server: WeaviateServer, writer: IndexWriter
) -> None:
    writer.write(Version("a", ["budget a"], 1))
    nobody = WeaviateLink("http://127.0.0.1:9", weaviate_server.grpc, weaviate_server.key, timeout_s=5)
    parts = app_around(WeaviateIndex(nobody, alias=writer.alias), WordEmbedder())

    async with asyncio.timeout(5):
        answered = [await parts.client.post("/v1/search", json={"query": "budget"}) for _ in range(5)]

    assert [item.status_code for item in answered] == [503] * 5
    assert answered[0].headers["Retry-After"] == "2"
    await nobody.close()
