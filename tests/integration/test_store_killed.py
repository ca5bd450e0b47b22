"""What a store that is killed in a write holds half is made whole by the next write: for every filter and search."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from weaviate.classes.query import Filter
from weaviate.client import WeaviateClient

from runtime.settings import Weaviate
from runtime.weaviate import connect
from schemas.index.contract import VECTOR, Generation
from schemas.index.manifest import Manifest, Span, object_id
from schemas.records import Origin, Position
from streams import generations
from streams.adapters.weaviate_index import WeaviateIndex
from streams.core.versions import NewChunk
from streams.ports import TemporaryFailure
from tests.integration.servers import RealServer, WeaviateServer
from tests.support.child_server import running

TENANT = "tenant_a"
MOST_KILLS = 40
AT_ONCE = 3
"""Batches of each kind written side by side: what one kill tears."""

DIMENSION = 8
WITHIN_S = 60.0

pytestmark = pytest.mark.real

CHUNK_FILTERS = ("document", "knowledge_base", "source", "text_hash", "public", "retired", "f_n_year")
MANIFEST_FILTERS = ("document", "knowledge_base", "source", "upload_id", "superseded", "grave")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    with running(RealServer("weaviate", tmp_path)) as server:
        yield server


@pytest.fixture
def client(server: RealServer) -> Iterator[WeaviateClient]:
    at = WeaviateServer.of(server)
    with connect(Weaviate(url=at.url, grpc=at.grpc, api_key=SecretStr(at.key))) as client:
        yield client


def a_batch(round_: int) -> tuple[list[NewChunk], list[Manifest], dict[str, np.ndarray]]:
    """100 documents of one chunk each."""
    position = Position("cdc/s", 1, round_ + 1, 1, round_ + 1)
    chunks, manifests = [], []
    for number in range(100):
        key = f"{TENANT}/kb/{round_}-{number}"
        text = f"Text {number} of round {round_}. " + "It says what all the others say. " * 5
        hashed = uuid.uuid4().hex
        chunk = NewChunk(
            object_id(key, text), key, "kb", "s", text, hashed, position.version, metadata={"year": 2000 + number}
        )
        span = Span(chunk.id, "h", 0, len(text), (), None)
        origin = Origin("cdc", "s", key, "cdc.s.public.t", 0, number)
        chunks.append(chunk)
        manifests.append(Manifest(key, position, origin, (span,), upload_id=f"upload-{round_}-{number}"))
    vectors = np.random.default_rng(round_).normal(size=(100, DIMENSION)).astype(np.float32)
    return chunks, manifests, {chunk.text_hash: vector for chunk, vector in zip(chunks, vectors, strict=True)}


def rows(collection: Any) -> dict[str, dict[str, Any]]:
    """What is held, read from the objects themselves: no index is asked."""
    return {str(item.uuid): dict(item.properties) for item in collection.iterator()}


def not_found(collection: Any, held: dict[str, dict[str, Any]], names: tuple[str, ...]) -> dict[str, set[str]]:
    """By property: the held objects that a filter for their value does not find."""
    missing = {}
    for name in names:
        values = sorted({held[identifier][name] for identifier in held})
        found: set[str] = set()
        for at in range(0, len(values), 100):
            where = Filter.by_property(name).contains_any(values[at : at + 100])
            objects = collection.query.fetch_objects(filters=where, limit=10_000, return_properties=[]).objects
            found |= {str(item.uuid) for item in objects}
        if held.keys() - found:
            missing[name] = held.keys() - found
    return missing


def killed_in(server: RealServer, index: WeaviateIndex, writes: Sequence[Callable[[], None]], after_s: float) -> bool:
    """Kill the store so long after these writes began, and start it again; True if one of them failed."""
    with ThreadPoolExecutor(len(writes)) as pool:
        under_way = [pool.submit(write) for write in writes]
        time.sleep(after_s)
        server.kill()
        server.start()
        failed = [write.exception(WITHIN_S) for write in under_way]
    assert all(error is None or isinstance(error, TemporaryFailure) for error in failed), failed
    # It says that it is ready before it knows its collections.
    again(partial(index.manifests, TENANT, ["none"], []))
    again(partial(index.unretired, TENANT, ["none"]))
    return any(failed)


class Moment:
    """When to kill: where the last kills were too early (nothing was written) or too late (all was), looks between."""

    def __init__(self, rng: random.Random, latest_s: float) -> None:
        self._rng, self._latest_s = rng, latest_s
        self._low, self._high = 0.0, latest_s

    def next(self) -> float:
        """Seconds after the begin of the writes."""
        if self._high - self._low < 0.1 * self._latest_s:  # no two writes take equally long
            self._low, self._high = 0.0, self._latest_s
        self.chosen = self._rng.uniform(self._low, self._high)
        return self.chosen

    def learn(self, *, failed: bool, wrote: bool) -> None:
        """What the kill at this moment found."""
        if not failed:
            self._high = self.chosen
        elif not wrote:
            self._low = self.chosen


def again(call: Callable[[], object]) -> None:
    """As the loop of a stage does: the same once more, until the store takes it."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            call()
            return
        except TemporaryFailure:
            assert time.monotonic() < deadline
            time.sleep(0.2)


@pytest.mark.timeout(600, func_only=True)
def test_a_write_that_the_store_died_in_is_whole_when_it_is_written_again(
    server: RealServer, client: WeaviateClient
) -> None:
    """Killed until objects of both kinds were seen held and not found: that is what this is about."""
    rng = random.Random(20260301)
    generation = Generation("test", DIMENSION, "treap", salt=uuid.uuid4().hex)
    generations.create(client, generation)
    index = WeaviateIndex(client, generation)
    chunks = client.collections.use(generation.chunks).with_tenant(TENANT)
    manifests = client.collections.use(generation.manifests).with_tenant(TENANT)
    new, versions, vectors = a_batch(0)
    index.write_chunks(TENANT, new[:1], vectors)
    began = time.monotonic()
    index.write_chunks(TENANT, new, vectors)
    took = time.monotonic() - began
    index.write_manifests(TENANT, versions)
    torn_chunks: set[str] = set()
    torn_manifests: set[str] = set()
    moment = Moment(rng, AT_ONCE * took)  # side by side they take longer than one alone
    whole = len(new)
    for kill in range(1, MOST_KILLS):
        writes: list[Callable[[], None]] = []
        for number in range(AT_ONCE):
            new, versions, vectors = a_batch(kill * AT_ONCE + number)
            writes.append(partial(index.write_chunks, TENANT, new, vectors))
            writes.append(partial(index.write_manifests, TENANT, versions))
        failed = killed_in(server, index, writes, moment.next())
        held = rows(chunks)
        moment.learn(failed=failed, wrote=len(held) > whole)
        whole += AT_ONCE * len(new)
        missing = not_found(chunks, held, CHUNK_FILTERS)
        missing_manifests = set().union(*not_found(manifests, rows(manifests), MANIFEST_FILTERS).values())
        assert failed or not (missing or missing_manifests), "no write failed, and these are half written"
        assert {manifest.id for manifest in index.unfound(TENANT)} == missing_manifests
        torn_manifests |= missing_manifests
        if unmarked := missing.get("retired"):
            torn_chunks |= set().union(*missing.values())
            index.revive(TENANT, unmarked)
            assert not_found(chunks, rows(chunks), ("retired",)) == {"retired": unmarked}, "this store is safer"
            index.revive(TENANT, unmarked, anew=True)
            assert not_found(chunks, rows(chunks), ("retired",)) == {}
        for write in writes:
            again(write)
        if torn_chunks and torn_manifests:
            break
    assert torn_chunks, f"no kill of {kill} left a chunk half written"
    assert torn_manifests, f"no kill of {kill} left a manifest half written"

    assert list(index.unfound(TENANT)) == []
    assert not_found(chunks, rows(chunks), CHUNK_FILTERS) == {}
    assert not_found(manifests, rows(manifests), MANIFEST_FILTERS) == {}
    stored = list(chunks.iterator(include_vector=[VECTOR]))
    assert len(stored) == whole
    for item in stored:
        if str(item.uuid) in torn_chunks:
            nearest = chunks.query.near_vector(item.vector[VECTOR], target_vector=VECTOR, limit=1).objects
            assert [str(found.uuid) for found in nearest] == [str(item.uuid)], "its vector is in no index"


def test_a_batch_is_sent_once(server: RealServer, client: WeaviateClient, caplog: pytest.LogCaptureFixture) -> None:
    """The client's own second try would be the same bytes, and nobody would know of it."""
    generation = Generation("test", DIMENSION, "treap", salt=uuid.uuid4().hex)
    generations.create(client, generation)
    index = WeaviateIndex(client, generation)
    new, _, vectors = a_batch(0)
    index.write_chunks(TENANT, new, vectors)
    server.kill()

    with caplog.at_level("INFO", "weaviate-client"), pytest.raises(TemporaryFailure):
        index.write_chunks(TENANT, new, vectors)

    assert sum("Batch objects received exception" in record.message for record in caplog.records) == 1


def test_a_sweep_marks_what_a_dead_writer_left(server: RealServer, client: WeaviateClient) -> None:
    """A version that is beaten, written by somebody who then died: no retry finds it, the command does."""
    generation = Generation("test", DIMENSION, "treap", salt=uuid.uuid4().hex)
    generations.ensure(client, generation)
    index = WeaviateIndex(client, generation)
    newer, versions, vectors = a_batch(1)
    older, beaten, old_vectors = a_batch(0)
    keys = {version.document.replace("/1-", "/0-"): version.document for version in versions}
    older = [replace(chunk, document=keys[chunk.document]) for chunk in older]
    beaten = [replace(manifest, document=keys[manifest.document]) for manifest in beaten]
    index.write_chunks(TENANT, newer, vectors)
    index.write_manifests(TENANT, versions)
    index.write_chunks(TENANT, older, old_vectors)
    index.write_manifests(TENANT, beaten[:30])

    found = [swept(server, "--json"), swept(server, "--json")]

    told = {"generation": generation.name, "tenant": TENANT, "documents": 100}
    assert [json.loads(one) for one in found] == [[told | {"marked": 130}], [told | {"marked": 0}]]
    assert {chunk.id for chunk in index.unretired(TENANT, keys.values())} == {chunk.id for chunk in newer}
    assert {m.id for m in index.manifests(TENANT, keys.values(), [])[0]} == {version.id for version in versions}
    server.kill()
    away = subprocess.run(
        sweep_command(), env=settings_of(server), check=False, capture_output=True, text=True, timeout=120
    )
    assert away.returncode == 1
    assert away.stderr.startswith("thalweg: no answer from Weaviate at ")


def sweep_command(*more: str) -> list[str]:
    return [sys.executable, "-m", "thalweg", "generation", "sweep", *more]


def settings_of(server: RealServer) -> dict[str, str]:
    address = server.described.address
    return {
        **os.environ,
        "THALWEG_WEAVIATE__URL": str(address["url"]),
        "THALWEG_WEAVIATE__GRPC": str(address["grpc"]),
        "THALWEG_WEAVIATE__API_KEY": server.home.weaviate_key_file.read_text().strip(),
    }


def swept(server: RealServer, *more: str) -> str:
    done = subprocess.run(
        sweep_command(*more), env=settings_of(server), check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
