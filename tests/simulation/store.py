"""The index and the model as one process sees them: each call may stop, fail, be carried out in part, lose its answer.

Before this: `tests/support/fake_index.py`, the collections that all processes share. After this: `world.py`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from runtime.embedding.contract import (
    EmbeddingRejected,
    EmbeddingReplyInvalid,
    EmbeddingUnavailable,
    EmbedResult,
    ModelFingerprint,
)
from schemas.index.manifest import Manifest
from schemas.records import Position
from streams.core.identity import text_hash
from streams.core.versions import NewChunk, StoredChunk
from streams.ports import PermanentFailure, TemporaryFailure, Vector
from tests.simulation.broker import Points
from tests.simulation.judge import Broken
from tests.support.fake_index import FakeIndex

DIMENSION = 4
REFUSED, CRASHING, UNSTORABLE = "Poison", "Curse", "Unstorable"
"""Words in a text: the model refuses it, the model's library fails over it, the store refuses it. Always."""


def vector_of(text: str) -> Vector:
    """The vector that the simulated model gives a text: finite, and of each text another."""
    digest = hashlib.sha256(text.encode()).digest()[: DIMENSION * 2]
    return np.frombuffer(digest, dtype="<u2").astype(np.float32)


def away() -> Exception:
    """The store's error."""
    return TemporaryFailure("the store is away")


class SimulatedStore:
    """IndexStore of one process over every tenant's collections."""

    def __init__(
        self,
        tenants: Mapping[str, FakeIndex],
        process: Points,
        changed: Callable[[str, str], None],
        answered: Callable[[str, Collection[str], Collection[str]], None],
    ) -> None:
        """changed: (tenant, document) of each write. answered: tenant, text hashes asked for, those it had."""
        self._process = process
        self._answered = answered
        self._order = random.Random(0)

        def view(tenant: str, shared: FakeIndex) -> FakeIndex:
            def effect(_: str, document: str) -> None:
                try:
                    changed(tenant, document)
                except Exception as error:
                    raise Broken(f"the simulation is wrong: {error!r}") from error
                process.point(away)

            return FakeIndex(
                chunks=shared.chunks,
                stored=shared.stored,
                superseded=shared.superseded,
                of_document=shared.of_document,
                before_call=lambda name: process.calls(name, away),
                after_effect=effect,
                refuse_text=UNSTORABLE,
                page=2,
            )

        self._views = {tenant: view(tenant, shared) for tenant, shared in tenants.items()}

    def manifests(
        self, tenant: str, documents: Collection[str], sources: Collection[str]
    ) -> tuple[list[Manifest], dict[str, Manifest]]:
        found, barriers = self._views[tenant].manifests(tenant, documents, sources)
        self._order.shuffle(found)  # the real store promises none
        self._process.point(away)
        return found, barriers

    def unretired(self, tenant: str, documents: Collection[str]) -> list[StoredChunk]:
        found = self._views[tenant].unretired(tenant, documents)
        self._process.point(away)
        return found

    def retired(self, tenant: str, chunk_ids: Collection[str]) -> set[str]:
        found = self._views[tenant].retired(tenant, chunk_ids)
        self._process.point(away)
        return found

    def vectors(self, tenant: str, text_hashes: Collection[str]) -> dict[str, Vector]:
        found = self._views[tenant].vectors(tenant, text_hashes)
        self._answered(tenant, text_hashes, found)
        self._process.point(away)
        return found

    def write_chunks(self, tenant: str, chunks: Sequence[NewChunk], vectors: Mapping[str, Vector]) -> None:
        for chunk in chunks:
            vector = vectors[chunk.text_hash]
            if vector.shape != (DIMENSION,) or not np.isfinite(vector).all():
                raise PermanentFailure("bad_vector", chunk.id)
            if not np.array_equal(vector, vector_of(chunk.text)):
                raise Broken(f"{chunk.document}: {chunk.text!r} has the vector of another text")
        self._process.wrote |= {chunk.id for chunk in chunks}
        self._views[tenant].write_chunks(tenant, chunks, vectors)

    def write_manifests(self, tenant: str, manifests: Sequence[Manifest]) -> None:
        self._process.wrote |= {manifest.id for manifest in manifests}
        self._views[tenant].write_manifests(tenant, manifests)

    def retire(
        self,
        tenant: str,
        chunk_ids: Collection[str],
        manifests: Collection[Manifest],
        at_ms: int,
        *,
        anew: bool = False,
    ) -> None:
        self._views[tenant].retire(tenant, chunk_ids, manifests, at_ms, anew=anew)

    def revive(self, tenant: str, chunk_ids: Collection[str], *, anew: bool = False) -> None:
        self._views[tenant].revive(tenant, chunk_ids, anew=anew)

    def documents(self, tenant: str) -> Iterable[tuple[str, str]]:
        return self._views[tenant].documents(tenant)

    def unfound(self, tenant: str) -> Iterable[Manifest]:
        return self._views[tenant].unfound(tenant)

    def documents_before(self, tenant: str, source: str, barrier: Position) -> Iterable[Manifest]:
        return self._views[tenant].documents_before(tenant, source, barrier)


class SimulatedModel:
    """Embedder of one process. asked is told of every text before it is embedded."""

    def __init__(self, process: Points, asked: Callable[[str], None]) -> None:
        self._process = process
        self._asked = asked
        self._failures = 0

    @property
    def fingerprint(self) -> ModelFingerprint:
        """As Embedder.fingerprint."""
        return ModelFingerprint("simulated", "hash", "1", DIMENSION, 512, normalised=False)

    def embed_documents(self, texts: Sequence[str]) -> EmbedResult:
        """As Embedder.embed_documents: now and then too busy, or with an answer that cannot be used."""
        self._process.point(self._busy)
        refused = [at for at, text in enumerate(texts) if REFUSED in text]
        if refused:
            raise EmbeddingRejected("refused", refused)
        if any(CRASHING in text for text in texts):
            raise ZeroDivisionError("over one text, always")
        vectors = np.array([vector_of(text) for text in texts], dtype=np.float32)
        self._process.point(self._busy)
        # Told last: an answer that got lost was not received.
        for text in texts:
            self._asked(text_hash(text))
        return EmbedResult(vectors, tokens=len(texts), calls=1)

    def embed_query(self, text: str) -> EmbedResult:
        """As Embedder.embed_query."""
        return self.embed_documents([text])

    def count_tokens(self, text: str) -> int:
        """As Embedder.count_tokens."""
        return len(text)

    def _busy(self) -> Exception:
        self._failures += 1
        if self._failures % 5 == 0:
            return EmbeddingReplyInvalid("a vector is not finite")
        return EmbeddingUnavailable("too many requests", retry_after=0.5 if self._failures % 2 else None)
