"""One suite for every embedder: what `runtime.embedding.contract` promises, whoever keeps it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from runtime.embedding.contract import Embedder, EmbeddingRejected, ModelFingerprint
from runtime.embedding.select import embedder_from
from tests.contract.embedder_cases import Options, remote_embedder

TEXTS = [f"Document {i} is about subject number {i * 7}, {'and more ' * (i % 5)}in few words." for i in range(21)]


@pytest.fixture(scope="module", params=["local", "cohere", "openai"])
def embedder(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    if request.param == "local":
        yield embedder_from(Options())
    else:
        with remote_embedder(request.param) as (embedder, _):
            yield embedder


def test_vectors_come_as_unit_float32_one_for_each_text(embedder: Embedder) -> None:
    result = embedder.embed_documents(TEXTS)
    assert result.vectors.shape == (len(TEXTS), embedder.fingerprint.dimension)
    assert result.vectors.dtype == np.float32
    assert np.isfinite(result.vectors).all()
    np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1, atol=1e-6)
    assert result.tokens > len(TEXTS)
    assert result.calls >= 1


def test_order_of_vectors_is_order_of_texts_across_batches(embedder: Embedder) -> None:
    forward = embedder.embed_documents(TEXTS).vectors
    backward = embedder.embed_documents(TEXTS[::-1]).vectors
    assert forward.tobytes() == np.ascontiguousarray(backward[::-1]).tobytes()
    assert len({row.tobytes() for row in forward}) == len(TEXTS)


def test_query_has_one_vector_nearest_to_the_text_it_repeats(embedder: Embedder) -> None:
    documents = embedder.embed_documents(TEXTS).vectors
    query = embedder.embed_query(TEXTS[4])
    assert query.vectors.shape == (1, embedder.fingerprint.dimension)
    assert int(np.argmax(documents @ query.vectors[0])) == 4


def test_no_texts_give_no_vectors_and_no_call(embedder: Embedder) -> None:
    result = embedder.embed_documents([])
    assert result.vectors.shape == (0, embedder.fingerprint.dimension)
    assert (result.tokens, result.calls) == (0, 0)


def test_threads_may_share_an_embedder(embedder: Embedder) -> None:
    alone = [embedder.embed_documents([text]).vectors.tobytes() for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: embedder.embed_documents([text]).vectors.tobytes(), TEXTS))
    assert together == alone


def test_blank_text_is_embedded_or_refused_by_position(embedder: Embedder) -> None:
    texts = ["a word", "  "]
    if embedder.fingerprint.provider == "local":
        assert embedder.embed_documents(texts).vectors.shape == (2, embedder.fingerprint.dimension)
        return
    with pytest.raises(EmbeddingRejected) as refusal:
        embedder.embed_documents(texts)
    assert refusal.value.positions == (1,)


def test_text_that_is_not_unicode_is_refused_by_position(embedder: Embedder) -> None:
    with pytest.raises(EmbeddingRejected) as refusal:
        embedder.embed_documents(["fine", "broken \ud800 text", "fine too"])
    assert refusal.value.positions == (1,)


def test_over_long_text_still_has_a_vector(embedder: Embedder) -> None:
    result = embedder.embed_documents(["many words " * 20_000])
    assert result.vectors.shape == (1, embedder.fingerprint.dimension)


def test_token_counts_grow_with_the_text_and_need_no_cut(embedder: Embedder) -> None:
    short, long = embedder.count_tokens("one two three"), embedder.count_tokens("one two three " * 400)
    assert 3 <= short < 20
    assert long >= 1200


def test_fingerprint_survives_its_record_and_its_key_fits_a_collection_name(embedder: Embedder) -> None:
    fingerprint = embedder.fingerprint
    assert ModelFingerprint.from_record(fingerprint.record()) == fingerprint
    assert fingerprint.normalised
    key = fingerprint.key()
    assert key.replace("_", "").isalnum()
    assert key == key.lower()
    assert len(key) <= 40
