"""Vectors from the topic `embeddings`: followed into a file, over restarts and damage; and a lost index made anew."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from runtime.embedding.contract import EmbedResult
from runtime.metrics import declare
from runtime.producer import ConfirmedProducer, Outgoing
from runtime.settings import Weaviate
from runtime.topics import BrokerUnavailable, Topics
from runtime.weaviate import connect
from schemas.catalog import topics
from schemas.codec import Codec
from schemas.records import Embedding
from streams import generations
from streams.adapters.outbox import KafkaOutbox
from streams.adapters.vector_log import KafkaVectorLog, Patience
from streams.adapters.weaviate_index import WeaviateIndex
from streams.core.outcomes import Done
from streams.rebuilding.comparison import compare, visible_documents
from streams.steps.index import IndexStep
from tests.integration import one_commit
from tests.integration.servers import RealServer, WeaviateServer, bootstrap_of
from tests.support.client import eventually
from tests.support.lookup import LocalLookup

pytestmark = pytest.mark.real

CODEC = Codec(LocalLookup())
MODEL, DIMENSION = "tiny_1", 4
TENANT = "acme"


@pytest.fixture
def bootstrap(kafka_server: RealServer) -> Iterator[str]:
    """A broker with an empty topic `embeddings`."""
    found = bootstrap_of(kafka_server, "embeddings", "receipts")
    admin = Topics(found)
    eventually(lambda: led(admin), 30)
    yield found
    admin.delete(["embeddings"])
    eventually(lambda: "embeddings" not in admin.partitions(), 30)


def led(admin: Topics) -> bool:
    """Whether each partition of the topic has a leader: one that was just made may not yet."""
    try:
        return len(admin.offsets(["embeddings"])) == topics()["embeddings"].partitions
    except BrokerUnavailable:
        return False


def embedding(hashed: str, number: float, *, tenant: str = TENANT, model: str = MODEL) -> Embedding:
    return Embedding(tenant, model, hashed, np.full(DIMENSION, number, dtype="<f4").tobytes())


def put(producer: ConfirmedProducer, *items: Embedding) -> None:
    producer.send([Outgoing("embeddings", item.key.encode(), CODEC.encode("embeddings", item)) for item in items])


def opened(
    bootstrap: str, file: Path, *, model: str = MODEL, history: float = 60.0, others: float = 0.0
) -> KafkaVectorLog:
    log = KafkaVectorLog(bootstrap, CODEC, file, model=model, dimension=DIMENSION, patience=Patience(history, others))
    log.start()
    return log


def numbers(log: KafkaVectorLog, *hashes: str, tenant: str = TENANT) -> dict[str, float]:
    return {hashed: float(vector[0]) for hashed, vector in log.vectors(tenant, hashes).items()}


def test_it_holds_the_newest_vector_of_each_text_of_its_model_and_tenant(
    bootstrap: str, producer: ConfirmedProducer, tmp_path: Path
) -> None:
    put(producer, embedding("a", 1), embedding("b", 2), embedding("a", 3), embedding("gone", 4))
    put(producer, embedding("a", 9, model="other_1"), embedding("a", 8, tenant="globex"), embedding("odd", 7))
    odd = Embedding(TENANT, MODEL, "odd", b"1234")
    put(producer, odd)
    producer.send([Outgoing("embeddings", embedding("gone", 4).key.encode(), None)])

    log = opened(bootstrap, tmp_path / "w.sqlite")

    assert numbers(log, "a", "b", "gone", "none") == {"a": 3, "b": 2}
    assert numbers(log, "a", tenant="globex") == {"a": 8}
    assert numbers(log, "odd") in ({}, {"odd": 7}), "a vector of another length is never given"
    log.close()


def test_a_restart_goes_on_where_it_stood_and_a_changed_model_starts_anew(
    bootstrap: str, producer: ConfirmedProducer, tmp_path: Path
) -> None:
    file = tmp_path / "w.sqlite"
    put(producer, *(embedding(f"t{n}", n) for n in range(300)))
    first = opened(bootstrap, file)
    assert len(numbers(first, *(f"t{n}" for n in range(300)))) == 300
    first.close()
    with sqlite3.connect(file) as database:
        (read,) = database.execute("SELECT sum(next) FROM progress").fetchone()
        database.execute("DELETE FROM vectors WHERE text_hash = 't7'")
    assert read == 300
    put(producer, embedding("late", 5))

    second = opened(bootstrap, file)
    assert numbers(second, "t7", "t8", "late") == {"t8": 8, "late": 5}, "what was read is not read again"
    second.close()

    other = opened(bootstrap, file, model="other_1")
    assert numbers(other, "t8", "late") == {}
    other.close()
    back = opened(bootstrap, file)
    assert numbers(back, "t7", "t8") == {"t7": 7, "t8": 8}
    back.close()


def test_a_damaged_file_is_made_anew_at_start_and_on_the_way(
    bootstrap: str, producer: ConfirmedProducer, tmp_path: Path
) -> None:
    file = tmp_path / "w.sqlite"
    put(producer, *(embedding(f"t{n}", n) for n in range(2000)))
    file.write_bytes(os.urandom(8192))

    log = opened(bootstrap, file)
    assert numbers(log, "t1999") == {"t1999": 1999}
    log.close()

    with file.open("r+b") as raw:
        raw.seek(4096)
        raw.write(os.urandom(file.stat().st_size - 4096))
    again = opened(bootstrap, file)
    eventually(lambda: numbers(again, "t0", "t1999") == {"t0": 0, "t1999": 1999}, 30)
    again.close()


def test_a_topic_that_was_made_anew_is_read_from_its_start(
    bootstrap: str, producer: ConfirmedProducer, tmp_path: Path
) -> None:
    file = tmp_path / "w.sqlite"
    put(producer, embedding("old", 1))
    first = opened(bootstrap, file)
    assert numbers(first, "old") == {"old": 1}
    first.close()
    admin = Topics(bootstrap)
    admin.delete(["embeddings"])
    eventually(lambda: "embeddings" not in admin.partitions(), 30)
    admin.apply(topics()["embeddings"])

    def written() -> None:
        with ConfirmedProducer(bootstrap, client_id="anew") as fresh:
            put(fresh, *(embedding(f"new{n}", n) for n in range(20)))

    eventually(lambda: led(admin), 30)
    written()
    second = opened(bootstrap, file)
    assert numbers(second, "old", "new0", "new19") == {"new0": 0, "new19": 19}
    second.close()


def test_who_waits_for_others_gets_what_they_compute_and_gives_up_in_time(
    bootstrap: str, producer: ConfirmedProducer, tmp_path: Path
) -> None:
    log = opened(bootstrap, tmp_path / "w.sqlite", others=1.0)
    began = time.monotonic()
    assert numbers(log, "never") == {}
    assert 1.0 <= time.monotonic() - began < 5.0

    log.keep([embedding("kept", 6), embedding("foreign", 6, model="other_1")])
    assert numbers(log, "kept") == {"kept": 6}
    put(producer, embedding("soon", 2))
    assert numbers(log, "soon") == {"soon": 2}
    log.close()


class NoModel(one_commit.HashEmbedder):
    """The model is not to be asked."""

    def embed_documents(self, texts: Sequence[str]) -> EmbedResult:
        raise AssertionError(f"{len(texts)} texts went to the model")


def test_an_index_that_was_lost_is_made_anew_from_kafka_alone(
    bootstrap: str, producer: ConfirmedProducer, weaviate_server: WeaviateServer, tmp_path: Path
) -> None:
    """Every collection is dropped, the generation made anew, the changes replayed: the model is asked for nothing."""
    made = one_commit.generation(f"lost-{tmp_path.name}-{time.time_ns()}")
    kept = replace(made, salt=f"{made.salt}-kept")
    client = connect(Weaviate(url=weaviate_server.url, grpc=weaviate_server.grpc, api_key=weaviate_server.key))  # type: ignore[arg-type]  # pydantic makes it secret
    batch = [
        one_commit.inbound(f"d{n}", 10 + n, f"Words of document {n}.\n\nAnd said by all.\n\nOnce {n}.")
        for n in range(30)
    ]
    batch += [one_commit.inbound("d3", 100, "Edited words.\n\nAnd said by all."), one_commit.inbound("d4", 101, None)]
    files = iter(range(9))

    def index(generation: object, embedder: one_commit.HashEmbedder) -> float:
        """Replay all changes into a generation; how many texts went to the model."""
        assert isinstance(generation, type(made))
        log = KafkaVectorLog(
            bootstrap, CODEC, tmp_path / f"{next(files)}.sqlite", model=embedder.fingerprint.key(), dimension=4,
            patience=Patience(60.0),
        )  # fmt: skip
        log.start()
        counters = declare(CollectorRegistry())
        step = IndexStep(
            codec=CODEC,
            index=WeaviateIndex(client, generation),
            embedder=embedder,
            outbox=KafkaOutbox(producer, CODEC, stage="index"),
            clock=one_commit.RealClock(),
            metrics=counters,
            generation=generation.name,
            parameters=one_commit.SMALL,
            vector_log=log,
        )
        for record in batch:
            assert isinstance(step.handle_now([record])[0], Done)
        log.close()
        return float(counters.registry.get_sample_value("thalweg_embedding_texts_total") or 0)

    try:
        for generation in (made, kept):
            assert generations.create(client, generation)
        computed = index(made, one_commit.HashEmbedder())
        assert computed > 25
        assert index(kept, NoModel()) == 0
        assert generations.remove(client, made.name)
        assert not generations.remove(client, made.name)

        assert generations.create(client, made)
        assert visible_documents(client, made) == 0
        assert index(made, NoModel()) == 0

        held = compare(client, kept, made)
        assert (held.documents, held.differing, held.only_there) == (29, 0, 0), held.differences
    finally:
        for generation in (made, kept):
            generations.remove(client, generation.name)
        client.close()
