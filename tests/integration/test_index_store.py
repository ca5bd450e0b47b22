"""One contract suite for IndexStore, run on the fake that the random histories use and on the real collections."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from pydantic import SecretStr

from runtime.settings import Weaviate
from runtime.weaviate import connect
from schemas.index.contract import Generation
from schemas.index.manifest import Manifest, Span, barrier_document, object_id
from schemas.records import Origin, Position
from streams import generations
from streams.adapters.weaviate_index import WeaviateIndex
from streams.core.identity import text_hash
from streams.core.versions import NewChunk
from streams.ports import IndexStore, PermanentFailure
from tests.integration.servers import WeaviateServer
from tests.support.fake_index import FakeIndex

TENANT = "tenant_a"


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.real)])
def store(request: pytest.FixtureRequest) -> Iterator[IndexStore]:
    """A store of a generation of its own."""
    if request.param == "fake":
        yield FakeIndex()
        return
    server: WeaviateServer = request.getfixturevalue("weaviate_server")
    client = connect(Weaviate(url=server.url, grpc=server.grpc, api_key=SecretStr(server.key)))
    generation = Generation("test", 4, "treap", salt=uuid.uuid4().hex)
    try:
        assert generations.create(client, generation)
        assert not generations.create(client, generation), "a second time there is nothing to make"
        yield WeaviateIndex(client, generation)
    finally:
        for name in (generation.chunks, generation.manifests):
            client.collections.delete(name)
        client.close()


def position(lsn: int) -> Position:
    return Position("cdc/s", 1, lsn, 1, lsn)


def new_chunk(text: str, document: str = "t/kb/a", lsn: int = 1, **more: object) -> NewChunk:
    version = position(lsn).version
    made = NewChunk(
        object_id(document, text, version), document, "kb", "s", text, f"hash-{text}", version, access=("g",)
    )
    return replace(made, **more)  # type: ignore[arg-type]


def manifest(document: str, lsn: int, *chunks: NewChunk, grave: bool = False) -> Manifest:
    origin = Origin("cdc", "s", document, "cdc.s.public.t", 0, lsn)
    spans = tuple(Span(c.id, "h", i, i + 1, ("Head",), 3) for i, c in enumerate(chunks))
    return Manifest(document, position(lsn), origin, spans, grave, "Title", {"year": 2024}, ("g",))


def vectors(*chunks: NewChunk) -> dict[str, np.ndarray]:
    return {c.text_hash: np.arange(4, dtype=np.float32) + len(c.text) for c in chunks}


def test_what_was_written_is_read_back(store: IndexStore) -> None:
    """Manifests whole, vectors by text hash, chunk objects as unretired; the same write twice is one."""
    one, two = new_chunk("one", metadata={"year": 2024, "tags": ["x"], "open": True, "name": "n"}), new_chunk("two!")
    version = manifest("t/kb/a", 1, one, two)
    for _ in range(2):
        store.write_chunks(TENANT, [one, two], vectors(one, two))
        store.write_manifests(TENANT, [version])

    found, barriers = store.manifests(TENANT, ["t/kb/a", "t/kb/none"], ["s"])

    assert (found, barriers) == ([version], {})
    assert sorted(stored.id for stored in store.unretired(TENANT, ["t/kb/a"])) == sorted([one.id, two.id])
    assert {stored.introduced for stored in store.unretired(TENANT, ["t/kb/a"])} == {position(1).version}
    read = store.vectors(TENANT, [one.text_hash, two.text_hash, "unknown"])
    assert {name: vector.tolist() for name, vector in read.items()} == {
        name: vector.tolist() for name, vector in vectors(one, two).items()
    }


def test_retired_objects_stay_as_a_cache_and_their_manifests_are_gone(store: IndexStore) -> None:
    """Retiring twice, or what is not there, is no error."""
    one = new_chunk("one")
    version = manifest("t/kb/a", 1, one)
    store.write_chunks(TENANT, [one], vectors(one))
    store.write_manifests(TENANT, [version])
    for _ in range(2):
        store.retire(TENANT, [one.id, str(uuid.uuid4())], [version, manifest("t/kb/b", 9)], at_ms=5)

    assert store.manifests(TENANT, ["t/kb/a"], []) == ([], {})
    assert store.unretired(TENANT, ["t/kb/a"]) == []
    assert set(store.vectors(TENANT, [one.text_hash])) == {one.text_hash}


def test_an_object_written_again_after_it_was_retired_is_back(store: IndexStore) -> None:
    """So a writer that wakes up late can bring one back; the manifests decide, not the mark."""
    one = new_chunk("one")
    store.write_chunks(TENANT, [one], vectors(one))
    store.retire(TENANT, [one.id], [], at_ms=5)
    store.write_chunks(TENANT, [one], vectors(one))

    assert [stored.id for stored in store.unretired(TENANT, ["t/kb/a"])] == [one.id]


def test_the_newest_barrier_of_each_source_is_found(store: IndexStore) -> None:
    """Barriers are no documents."""
    store.write_manifests(TENANT, [manifest(barrier_document("s"), lsn, grave=True) for lsn in (5, 3)])

    found, barriers = store.manifests(TENANT, ["t/kb/a"], ["s", "other"])

    assert found == []
    assert {source: barrier.position.major for source, barrier in barriers.items()} == {"s": 5}


def test_documents_before_a_barrier_are_the_older_live_ones(store: IndexStore) -> None:
    """Not the newer, the graves or the superseded."""
    old, new, grave, beaten = (
        manifest("t/kb/old", 1),
        manifest("t/kb/new", 9),
        manifest("t/kb/grave", 1, grave=True),
        manifest("t/kb/beaten", 1),
    )
    store.write_manifests(TENANT, [old, new, grave, beaten])
    store.retire(TENANT, [], [beaten], at_ms=1)

    assert [m.document for m in store.documents_before(TENANT, "s", position(5))] == ["t/kb/old"]


ONLY_REAL = pytest.mark.parametrize("store", [pytest.param("real", marks=pytest.mark.real)], indirect=True)
"""The fake is one tenant's and takes any vector."""


@ONLY_REAL
def test_tenants_do_not_see_one_another(store: IndexStore) -> None:
    """Neither manifests nor vectors: one's text must not tell another that it exists."""
    one = new_chunk("one")
    store.write_chunks(TENANT, [one], vectors(one))
    store.write_manifests(TENANT, [manifest("t/kb/a", 1, one)])
    store.write_manifests("tenant_b", [manifest("t/kb/b", 1)])

    assert store.manifests("tenant_b", ["t/kb/a"], []) == ([], {})
    assert store.vectors("tenant_b", [one.text_hash]) == {}


def test_many_documents_and_many_objects_are_found_whole(store: IndexStore) -> None:
    """More than one page, more than one filter's worth of values."""
    chunks = [new_chunk(f"text {i}", f"t/kb/d{i}") for i in range(450)]
    store.write_chunks(TENANT, chunks, vectors(*chunks))
    store.write_manifests(TENANT, [manifest(chunk.document, 1, chunk) for chunk in chunks])

    found, _ = store.manifests(TENANT, [chunk.document for chunk in chunks], ["s"])

    assert len({m.document for m in found}) == 450
    assert len(store.vectors(TENANT, [chunk.text_hash for chunk in chunks])) == 450
    assert len(store.unretired(TENANT, {chunk.document for chunk in chunks})) == 450
    store.retire(TENANT, [chunk.id for chunk in chunks], found, at_ms=1)
    assert store.unretired(TENANT, {chunk.document for chunk in chunks}) == []
    identifiers = {chunk.id for chunk in chunks}
    assert store.retired(TENANT, [*identifiers, str(uuid.uuid4())]) == identifiers
    store.revive(TENANT, [chunks[0].id])
    assert store.retired(TENANT, identifiers) == identifiers - {chunks[0].id}


@ONLY_REAL
def test_a_vector_of_the_wrong_length_is_refused_for_good(store: IndexStore) -> None:
    """It never reaches the store."""
    one = new_chunk("one")
    with pytest.raises(PermanentFailure, match="bad_vector"):
        store.write_chunks(TENANT, [one], {one.text_hash: np.ones(3, dtype=np.float32)})


@ONLY_REAL
def test_an_object_that_the_store_refuses_among_others_is_told(store: IndexStore) -> None:
    """The call as a whole succeeds, and its neighbours are written: only its own result says that it was not."""
    one, odd = new_chunk("one"), new_chunk("odd", source=7)

    with pytest.raises(PermanentFailure, match="index_refused"):
        store.write_chunks(TENANT, [one, odd], vectors(one, odd))

    assert [stored.id for stored in store.unretired(TENANT, ["t/kb/a"])] == [one.id]


def test_a_document_of_more_chunks_than_one_answer_can_hold_is_seen_whole(store: IndexStore) -> None:
    """A store that gives the first 10,000 of an answer only would let such a document never change again."""
    texts = [f"Paragraph {n}." for n in range(10_300)]
    chunks = [new_chunk(text, text_hash=text_hash(text)) for text in texts]
    store.write_chunks(TENANT, chunks, vectors(*chunks))

    assert {stored.id for stored in store.unretired(TENANT, ["t/kb/a"])} == {chunk.id for chunk in chunks}
    store.retire(TENANT, [chunk.id for chunk in chunks[:300]], [], 5)
    assert {stored.id for stored in store.unretired(TENANT, ["t/kb/a"])} == {chunk.id for chunk in chunks[300:]}


def test_a_sweep_is_told_of_every_document_without_a_mark(store: IndexStore) -> None:
    """Also of those with chunks and no manifest, or a manifest and no chunks; not of barriers; none is missed."""
    one, lone, over = new_chunk("one"), new_chunk("lone", "t/kb/lone"), new_chunk("over", "t/kb/over")
    grave, ended = manifest("t/kb/grave", 2, grave=True), manifest("t/kb/over", 1, over)
    store.write_chunks(TENANT, [one, lone, over], vectors(one, lone, over))
    store.write_manifests(TENANT, [manifest("t/kb/a", 1, one), grave, ended, manifest(barrier_document("s"), 1)])
    store.retire(TENANT, [over.id], [ended], 5)

    assert {document for document, _ in store.documents(TENANT)} == {"t/kb/a", "t/kb/grave", "t/kb/lone"}
    assert {source for _, source in store.documents(TENANT)} == {"s"}
    assert list(store.unfound(TENANT)) == []
