"""What a misbehaving model server does to us: each fault is the right error, and no bad vector gets through."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate

import httpx
import numpy as np
import pytest

from runtime.embedding import remote
from runtime.embedding.bounded_http import bounded_client
from runtime.embedding.contract import (
    Embedder,
    EmbeddingError,
    EmbeddingMisconfigured,
    EmbeddingRejected,
    EmbeddingReplyInvalid,
    EmbeddingUnavailable,
)
from runtime.embedding.select import configured_fingerprint, embedder_for, embedder_from
from tests.contract.embedder_cases import DIMENSION, REMOTE, Options, remote_embedder
from tests.stand_ins.model_answers import vector_of
from tests.stand_ins.model_control import Kind
from tests.stand_ins.model_server import ModelServer

pytestmark = pytest.mark.slow

Pair = tuple[Embedder, ModelServer]
TEXTS = ["first text", "second text", "third text"]


@pytest.fixture(params=["cohere", "openai"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with remote_embedder(request.param, timeout_s=0.5) as found:
        yield found


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("rate_limit", EmbeddingUnavailable),
        ("server_error", EmbeddingUnavailable),
        ("overloaded", EmbeddingUnavailable),
        ("hang", EmbeddingUnavailable),
        ("slow", EmbeddingUnavailable),
        ("trickle", EmbeddingUnavailable),
        ("drop", EmbeddingUnavailable),
        ("garbage", EmbeddingReplyInvalid),
        ("strange", EmbeddingReplyInvalid),
        ("nan", EmbeddingReplyInvalid),
        ("zero", EmbeddingReplyInvalid),
        ("short", EmbeddingReplyInvalid),
        ("wrong_dimension", EmbeddingMisconfigured),
        ("unauthorised", EmbeddingMisconfigured),
        ("unknown_model", EmbeddingMisconfigured),
    ],
)
def test_each_fault_becomes_its_error_at_once(pair: Pair, kind: Kind, error: type[EmbeddingError]) -> None:
    embedder, server = pair
    server.misbehave(kind, seconds=30)
    began = time.monotonic()
    with pytest.raises(EmbeddingError) as raised:
        embedder.embed_documents(TEXTS)
    assert type(raised.value) is error
    assert time.monotonic() - began < 5
    # The vendor's own retries are off: the caller owns the clock. An answer that is nonsense is compared with another.
    assert len(server.calls()) == (2 if error is EmbeddingReplyInvalid else 1)
    assert "secret-key" not in str(raised.value)
    assert embedder.embed_documents(TEXTS).vectors.shape == (3, DIMENSION)


@pytest.mark.parametrize("kind", ["garbage", "strange", "nan", "zero", "short"])
def test_server_that_answers_a_harmless_text_as_badly_is_broken_and_no_text_is_to_blame(pair: Pair, kind: Kind) -> None:
    embedder, server = pair
    server.misbehave(kind, 2)
    with pytest.raises(EmbeddingUnavailable, match="harmless") as raised:
        embedder.embed_documents(TEXTS)
    assert type(raised.value) is EmbeddingUnavailable
    assert [call.texts for call in server.calls()] == [tuple(TEXTS), (remote.PROBE,)]


def test_retry_after_in_seconds_is_handed_on(pair: Pair) -> None:
    embedder, server = pair
    server.misbehave("rate_limit", retry_after=7)
    with pytest.raises(EmbeddingUnavailable) as raised:
        embedder.embed_query("text")
    assert raised.value.retry_after == 7.0


def test_no_retry_after_says_none(pair: Pair) -> None:
    embedder, server = pair
    server.misbehave("rate_limit")
    with pytest.raises(EmbeddingUnavailable) as raised:
        embedder.embed_query("text")
    assert raised.value.retry_after is None


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, EmbeddingMisconfigured),
        (400, EmbeddingRejected),
        (401, EmbeddingMisconfigured),
        (402, EmbeddingMisconfigured),
        (403, EmbeddingMisconfigured),
        (404, EmbeddingMisconfigured),
        (405, EmbeddingMisconfigured),
        (408, EmbeddingUnavailable),
        (413, EmbeddingRejected),
        (422, EmbeddingRejected),
        (429, EmbeddingUnavailable),
        (500, EmbeddingUnavailable),
        (501, EmbeddingMisconfigured),
        (503, EmbeddingUnavailable),
        (529, EmbeddingUnavailable),
    ],
)
def test_every_status_has_its_error_which_repeats_neither_text_nor_key(
    status: int, error: type[EmbeddingError]
) -> None:
    said = "cannot read 'my private text' with key sk-123, " + "x" * 500
    found = remote.error_for_status(
        status, {}, said, source="m", texts=["my private text"], secret="sk-123", now=time.time
    )
    assert type(found) is error
    assert "cannot read" in str(found)
    assert "private" not in str(found)
    assert "sk-123" not in str(found)
    assert len(str(found)) < 320


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        (formatdate(1_700_000_030, usegmt=True), 30.0),
        (formatdate(1_600_000_000, usegmt=True), 0.0),
        ("-4", 0.0),
        ("999999", remote.LONGEST_RETRY_AFTER),
        ("soon", None),
        ("nan", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date_and_bounded(value: str, seconds: float | None) -> None:
    assert remote.retry_after({"Retry-After": value}, lambda: 1_700_000_000.0) == seconds


def test_server_that_is_not_there_is_unavailable(pair: Pair) -> None:
    embedder, server = pair
    server.stop()
    with pytest.raises(EmbeddingUnavailable, match="reached"):
        embedder.embed_query("text")


def test_cohere_answer_in_another_order_is_refused() -> None:
    with remote_embedder("cohere") as (embedder, server):
        server.misbehave("permuted")
        with pytest.raises(EmbeddingReplyInvalid, match="another order"):
            embedder.embed_documents(TEXTS)


def test_openai_answer_in_another_order_is_put_right_by_its_numbers() -> None:
    with remote_embedder("openai") as (embedder, server):
        good = embedder.embed_documents(TEXTS).vectors
        server.misbehave("permuted")
        assert embedder.embed_documents(TEXTS).vectors.tobytes() == good.tobytes()
        server.misbehave("misnumbered")
        with pytest.raises(EmbeddingReplyInvalid, match="numbered"):
            embedder.embed_documents(TEXTS)


def test_refused_texts_are_found_and_named_and_the_others_accepted(pair: Pair) -> None:
    embedder, server = pair
    server.refuse_texts_with("POISON")
    texts = [f"text {i}" for i in range(20)]
    texts[5] += " POISON"
    texts[17] += " POISON"
    with pytest.raises(EmbeddingRejected) as raised:
        embedder.embed_documents(texts)
    assert raised.value.positions == (5, 17)
    assert "POISON" not in str(raised.value)
    good = [text for i, text in enumerate(texts) if i not in raised.value.positions]
    assert embedder.embed_documents(good).vectors.shape == (18, DIMENSION)


def test_refused_question_is_rejected(pair: Pair) -> None:
    embedder, server = pair
    server.refuse_texts_with("POISON")
    with pytest.raises(EmbeddingRejected) as raised:
        embedder.embed_query("POISON?")
    assert raised.value.positions == (0,)


def test_server_that_refuses_everything_is_misconfigured_and_blames_no_text(pair: Pair) -> None:
    embedder, server = pair
    server.misbehave("bad_request", times=-1)
    with pytest.raises(EmbeddingMisconfigured, match="every text"):
        embedder.embed_documents(TEXTS)
    assert len(server.calls()) == 2


def test_batches_keep_to_the_size_set_and_tokens_add_up(pair: Pair) -> None:
    embedder, server = pair
    result = embedder.embed_documents([f"number {i}" for i in range(20)])
    assert [len(call.texts) for call in server.calls()] == [8, 8, 4]
    assert (result.calls, result.tokens) == (3, 40)


def test_vectors_are_the_servers(pair: Pair) -> None:
    embedder, _ = pair
    expected = np.array([vector_of(text, DIMENSION) for text in TEXTS])
    np.testing.assert_allclose(embedder.embed_documents(TEXTS).vectors, expected, atol=1e-6)


def test_cohere_is_told_documents_from_questions() -> None:
    with remote_embedder("cohere") as (embedder, server):
        embedder.embed_documents(TEXTS)
        embedder.embed_query("a question")
        documents, query = server.calls("/v2/embed")
        assert (documents.role, documents.texts) == ("search_document", tuple(TEXTS))
        assert (query.role, query.texts) == ("search_query", ("a question",))
        for call in (documents, query):
            assert call.body["embedding_types"] == ["float"]
            assert "output_dimension" not in call.body
            assert call.authorization == "Bearer secret-key"


def test_cohere_takes_no_more_than_96_texts_at_once() -> None:
    with remote_embedder("cohere", batch_size=500) as (embedder, server):
        embedder.embed_documents([f"number {i}" for i in range(100)])
        assert [len(call.texts) for call in server.calls()] == [96, 4]


@pytest.mark.parametrize("suffix", ["", "/", "/v2", "/v1/"])
def test_cohere_address_may_carry_its_version(suffix: str) -> None:
    with ModelServer(DIMENSION) as server:
        options = Options("cohere", server.url + suffix, "m", None, DIMENSION)
        assert embedder_from(options).embed_query("text").vectors.shape == (1, DIMENSION)


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_openai_address_may_lack_its_version(suffix: str) -> None:
    with ModelServer(DIMENSION) as server:
        options = Options("openai", server.url + suffix, "m", None, DIMENSION)
        assert embedder_from(options).embed_query("text").vectors.shape == (1, DIMENSION)
        assert server.calls()[0].authorization == ""


@pytest.mark.parametrize(
    ("provider", "model", "field"),
    [("cohere", "embed-v4.0", "output_dimension"), ("openai", "text-embedding-3-small", "dimensions")],
)
def test_other_dimension_of_a_known_model_is_asked_for(provider: str, model: str, field: str) -> None:
    with remote_embedder(provider, model=model, dimension=256) as (embedder, server):
        assert embedder.embed_documents(TEXTS).vectors.shape == (3, 256)
        assert server.calls()[0].body[field] == 256


def test_asymmetric_open_models_get_their_prefixes() -> None:
    with remote_embedder("openai", model="intfloat/multilingual-e5-small") as (embedder, server):
        embedder.embed_documents(["a text"])
        embedder.embed_query("a question")
        assert [call.texts for call in server.calls()] == [("passage: a text",), ("query: a question",)]
        assert embedder.fingerprint.revision.startswith("prefix-")


def test_cohere_echo_that_was_only_rewritten_is_no_fault() -> None:
    with remote_embedder("cohere") as (embedder, server):
        server.misbehave("rewritten_echo")
        assert embedder.embed_documents(["First  Text", "SECOND text"]).vectors.shape == (2, DIMENSION)


@pytest.mark.parametrize("provider", ["cohere", "openai"])
def test_own_server_is_asked_for_its_dimension_if_none_is_set(provider: str) -> None:
    with remote_embedder(provider, dimension=None) as (embedder, server):
        assert embedder.fingerprint.dimension == DIMENSION
        assert len(server.calls()) == 1
        assert embedder.embed_documents(TEXTS).vectors.shape == (3, DIMENSION)
        server.set_dimension(DIMENSION * 2)
        with pytest.raises(EmbeddingMisconfigured, match="dimensions"):
            embedder.embed_documents(TEXTS)


@pytest.mark.parametrize("provider", ["cohere", "openai"])
def test_live_generation_says_the_dimension_without_a_call(provider: str) -> None:
    with ModelServer(DIMENSION) as server:
        options = replace(REMOTE[provider](server), dimension=None)
        record = configured_fingerprint(replace(options, dimension=DIMENSION)).record()
        assert embedder_for(record, options).fingerprint.dimension == DIMENSION
        assert server.calls() == []


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("strange", EmbeddingReplyInvalid),
        ("short", EmbeddingReplyInvalid),
        ("bad_request", EmbeddingMisconfigured),
        ("unauthorised", EmbeddingMisconfigured),
        ("server_error", EmbeddingUnavailable),
    ],
)
@pytest.mark.parametrize("provider", ["cohere", "openai"])
def test_own_server_that_fails_when_asked_for_its_dimension_says_why(
    provider: str, kind: Kind, error: type[EmbeddingError]
) -> None:
    with ModelServer(DIMENSION) as server:
        server.misbehave(kind)
        with pytest.raises(EmbeddingError) as raised:
            embedder_from(replace(REMOTE[provider](server), dimension=None))
        assert type(raised.value) is error


def test_whole_exchange_is_bounded_even_if_bytes_keep_coming() -> None:
    with ModelServer(DIMENSION) as server, bounded_client(0.5) as client:
        server.misbehave("trickle", seconds=30)
        began = time.monotonic()
        body = {"model": "m", "input": "text"}
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"{server.openai_url}/embeddings", json=body)
        assert time.monotonic() - began < 3


def test_hanging_call_leaves_other_threads_alone(pair: Pair) -> None:
    embedder, server = pair
    server.misbehave("hang", seconds=30)
    failures: list[EmbeddingError] = []

    def stuck() -> None:
        try:
            embedder.embed_query("stuck")
        except EmbeddingError as error:
            failures.append(error)

    thread = threading.Thread(target=stuck)
    thread.start()
    deadline = time.monotonic() + 5
    while not server.calls():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert embedder.embed_query("free").vectors.shape == (1, DIMENSION)
    thread.join(10)
    assert [type(error) for error in failures] == [EmbeddingUnavailable]
