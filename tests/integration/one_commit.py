"""A process that commits one batch to a real Weaviate and dies at a failpoint on the way, as `kill -9` would.

Before this: `test_failpoints.py` starts it (`python -m tests.integration.one_commit SALT BATCH`) and sets the
failpoint. After this: the test looks at what the death left. The index step, the commit and the store are the
product's own; vectors come from a hash, and receipts go nowhere.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence

import numpy as np
from prometheus_client import CollectorRegistry
from weaviate.client import WeaviateClient

from runtime.clock import now_ms
from runtime.embedding.contract import EmbedResult, ModelFingerprint
from runtime.metrics import declare
from runtime.settings import load_settings
from runtime.weaviate import connect
from schemas.codec import Codec
from schemas.index.contract import Generation
from schemas.records import DocumentChange, Embedding, Operation, Origin, Position, Receipt
from streams.adapters.weaviate_index import WeaviateIndex
from streams.core.chunking import ChunkingParameters
from streams.core.outcomes import Done
from streams.ports import Inbound
from streams.steps.index import IndexStep
from tests.support.lookup import LocalLookup

TENANT, BASE, SOURCE = "failpoints", "kb", "failpoints"
SMALL = ChunkingParameters(most=160)
CODEC = Codec(LocalLookup())


class HashEmbedder:
    """A vector by the text's hash."""

    @property
    def fingerprint(self) -> ModelFingerprint:
        return ModelFingerprint("test", "hash", "1", 4, 512, True)

    def embed_documents(self, texts: Sequence[str]) -> EmbedResult:
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts]
        rows = [np.random.default_rng(seed).normal(size=4).astype(np.float32) for seed in seeds]
        return EmbedResult(np.array(rows), tokens=len(texts), calls=1)

    def embed_query(self, text: str) -> EmbedResult:
        return self.embed_documents([text])

    def count_tokens(self, text: str) -> int:
        return len(text)


class NoOutbox:
    """Takes receipts and vectors, and keeps none."""

    def publish(self, receipts: Sequence[Receipt], embeddings: Sequence[Embedding]) -> None:
        """Not kept."""

    def progress(self, receipts: Sequence[Receipt]) -> None:
        """Not kept."""


class RealClock:
    """The machine's time."""

    def now_ms(self) -> int:
        return now_ms()


def generation(salt: str) -> Generation:
    """The test's own generation."""
    return Generation("test:hash", 4, SMALL.fingerprint, salt)


def inbound(document: str, lsn: int, text: str | None) -> Inbound:
    """A change of a document, as it would lie in the topic `documents`; text None deletes it."""
    change = DocumentChange(
        tenant=TENANT,
        knowledge_base=BASE,
        document_id=document,
        operation=Operation.DELETE if text is None else Operation.UPSERT,
        position=Position(f"cdc/{SOURCE}", 1, lsn, 1, lsn),
        origin=Origin("cdc", SOURCE, document, f"cdc.{SOURCE}.public.t", 0, lsn),
        text=text,
    )
    return Inbound("documents", 0, lsn, 0, change.key.encode(), CODEC.encode("documents", change))


def commit(client: WeaviateClient, salt: str, batch: Sequence[tuple[str, int, str | None]]) -> None:
    """Commit the batch of (document, lsn, text or None) to the generation of this salt."""
    step = IndexStep(
        codec=CODEC,
        index=WeaviateIndex(client, generation(salt)),
        embedder=HashEmbedder(),
        outbox=NoOutbox(),
        clock=RealClock(),
        metrics=declare(CollectorRegistry()),
        generation=generation(salt).name,
        parameters=SMALL,
        slice_texts=1,
    )
    outcomes = step.handle_now([inbound(*change) for change in batch])
    assert all(isinstance(outcome, Done) for outcome in outcomes), outcomes


if __name__ == "__main__":
    with connect(load_settings().weaviate) as connected:
        commit(connected, sys.argv[1], json.loads(sys.argv[2]))
