"""Questions become vectors off the event loop, with the one model that fits."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from query_api.retrieval.ports import ModelMismatch, ModelUnavailable
from query_api.retrieval.query_embedding import ThreadedEmbedder
from runtime.embedding.contract import (
    Embedder,
    EmbeddingMisconfigured,
    EmbeddingUnavailable,
    EmbedResult,
    ModelFingerprint,
)
from runtime.metrics import Metrics, declare
from schemas.index.contract import Generation

FINGERPRINT = ModelFingerprint("local", "tiny", "", 2, 10, True)
GENERATION = Generation(FINGERPRINT.key(), 2, "test", embedding=FINGERPRINT.record())


class Tiny:
    """An Embedder that remembers which threads asked it."""

    fingerprint = FINGERPRINT

    def __init__(self) -> None:
        self.threads: list[str] = []
        self.fails: Exception | None = None
        self.hold: threading.Event | None = None

    def embed_documents(self, texts: Sequence[str]) -> EmbedResult:
        raise AssertionError("a question is no document")

    def embed_query(self, text: str) -> EmbedResult:
        self.threads.append(threading.current_thread().name)
        if self.hold is not None:
            self.hold.wait(10)
        if self.fails is not None:
            raise self.fails
        return EmbedResult(np.array([[1.0, 0.0]], dtype=np.float32), tokens=3, calls=1)

    def count_tokens(self, text: str) -> int:
        return 1


def over(tiny: Embedder, *, timeout_s: float = 5) -> tuple[ThreadedEmbedder, Metrics]:
    metrics = declare(CollectorRegistry())
    return ThreadedEmbedder(lambda _: tiny, metrics, threads=2, timeout_s=timeout_s), metrics


async def test_a_question_is_embedded_in_a_thread_and_counted_and_kept() -> None:
    tiny = Tiny()
    embedder, metrics = over(tiny)

    assert await embedder.embed(GENERATION, "q") == [1.0, 0.0]
    assert await embedder.embed(GENERATION, "q") == [1.0, 0.0]

    assert len(tiny.threads) == 1
    assert tiny.threads[0] != threading.current_thread().name
    assert metrics.registry.get_sample_value("thalweg_embedding_calls_total") == 1
    assert metrics.registry.get_sample_value("thalweg_embedding_tokens_total") == 3


async def test_another_model_than_the_generations_is_refused_and_both_are_named() -> None:
    embedder, _ = over(Tiny())

    with pytest.raises(ModelMismatch, match=FINGERPRINT.key()):
        await embedder.embed(replace(GENERATION, model="other_123"), "q")


@pytest.mark.parametrize("error", [EmbeddingUnavailable("busy"), EmbeddingMisconfigured("no key")])
async def test_what_the_model_says_is_passed_on_in_our_words(error: Exception) -> None:
    tiny = Tiny()
    tiny.fails = error
    embedder, _ = over(tiny)

    with pytest.raises(ModelUnavailable, match=str(error)):
        await embedder.embed(GENERATION, "q")


async def test_a_model_that_hangs_is_given_up() -> None:
    tiny = Tiny()
    tiny.hold = threading.Event()
    embedder, _ = over(tiny, timeout_s=0.05)
    await embedder.ready(GENERATION)

    with pytest.raises(ModelUnavailable, match="did not answer within"):
        await embedder.embed(GENERATION, "q")
    tiny.hold.set()


async def test_a_model_that_was_not_there_at_the_start_is_found_later() -> None:
    loads = iter([EmbeddingMisconfigured("run `thalweg setup`"), None])

    def load(_: Generation) -> Embedder:
        failure = next(loads)
        if failure is not None:
            raise failure
        return Tiny()

    embedder = ThreadedEmbedder(load, declare(CollectorRegistry()), threads=1, timeout_s=5)

    with pytest.raises(ModelUnavailable, match="thalweg setup"):
        await embedder.ready(GENERATION)
    assert await embedder.ready(GENERATION) == FINGERPRINT.key()


async def test_each_generation_is_asked_with_the_model_that_made_it_loaded_once_each() -> None:
    loaded: list[str] = []

    class Named(Tiny):
        def __init__(self, fingerprint: ModelFingerprint) -> None:
            super().__init__()
            self.fingerprint = fingerprint

        def embed_query(self, text: str) -> EmbedResult:
            number = float(len(self.fingerprint.model))
            return EmbedResult(np.array([[number, 0.0]], dtype=np.float32), tokens=1, calls=1)

    def load(generation: Generation) -> Embedder:
        loaded.append(generation.model)
        return Named(ModelFingerprint.from_record(generation.embedding))

    embedder = ThreadedEmbedder(load, declare(CollectorRegistry()), threads=2, timeout_s=5)
    made = [ModelFingerprint("local", name, "", 2, 10, True) for name in ("a", "bb", "ccc")]
    one, two, three = (Generation(found.key(), 2, "test", embedding=found.record()) for found in made)

    assert await embedder.embed(one, "q") == [1.0, 0.0]
    assert await embedder.embed(two, "q") == [2.0, 0.0]
    assert await embedder.embed(one, "other") == [1.0, 0.0], "a search under way still has its model"
    assert loaded == [one.model, two.model]
    assert await embedder.embed(three, "q") == [3.0, 0.0]
    assert await embedder.embed(one, "q") == [1.0, 0.0], "what was asked before is still known"
