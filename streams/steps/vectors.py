"""Where a text's vector comes from: the index, what was just computed, the log of vectors, and only then the model.

Before this: `index.py` planned a batch. After this: `commit.py` writes slice by slice what is found here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from runtime.embedding.contract import Embedder, EmbeddingRejected
from runtime.metrics import Metrics
from schemas.records import Embedding
from streams.ports import IndexStore, Vector, VectorLog

_SPARE = 4096
"""Most vectors kept that were computed and not written yet (6 MB at 384 dimensions)."""


class TextsRefused(Exception):
    """The model refuses these texts, by hash, for good; the vectors of the others were computed and are kept."""

    def __init__(self, hashes: Collection[str], detail: str) -> None:
        super().__init__(detail)
        self.hashes = frozenset(hashes)
        self.detail = detail


@dataclass(frozen=True)
class Found:
    """Vectors by text hash, and those among them that were computed: they are to be published."""

    vectors: Mapping[str, Vector]
    computed: tuple[Embedding, ...]


@dataclass(frozen=True)
class VectorFinder:
    """Finds vectors for one tenant. spare holds what was computed and not written yet; it outlives the finder.

    embedded: the texts, by hash, that were computed for the batch at hand.
    """

    tenant: str
    index: IndexStore
    log: VectorLog | None
    embedder: Embedder
    metrics: Metrics
    spare: dict[tuple[str, str], Vector]
    embedded: set[str] = field(default_factory=set)

    def find(self, texts: Mapping[str, str]) -> Found:
        """A vector for each text (by hash). Hand over a slice: all of it is held in memory.

        What was computed for a batch that then failed is not computed again. Raises TextsRefused, EmbeddingRejected
        (the model does not say which), EmbeddingUnavailable, EmbeddingMisconfigured, TemporaryFailure.
        """
        if not texts:
            return Found({}, ())
        vectors = self.index.vectors(self.tenant, texts)
        computed = {
            hashed: self.spare[self.tenant, hashed]
            for hashed in texts
            if hashed not in vectors and (self.tenant, hashed) in self.spare
        }
        missing = [hashed for hashed in texts if hashed not in vectors and hashed not in computed]
        if missing and self.log is not None:
            vectors = vectors | self.log.vectors(self.tenant, missing)
            missing = [hashed for hashed in missing if hashed not in vectors]
        if missing:
            computed |= self._compute({hashed: texts[hashed] for hashed in missing})
        self.embedded.update(computed)
        model = self.embedder.fingerprint.key()
        return Found(
            {**vectors, **computed},
            tuple(
                Embedding(self.tenant, model, hashed, vector.astype("<f4").tobytes())
                for hashed, vector in computed.items()
            ),
        )

    def written(self, texts: Collection[str]) -> None:
        """The objects with these texts are in the index: their vectors need not be kept here."""
        for hashed in texts:
            self.spare.pop((self.tenant, hashed), None)

    def _compute(self, texts: dict[str, str]) -> dict[str, Vector]:
        refused: dict[str, str] = {}
        # Neighbours in length go to the model together: it pads each small batch to its longest text.
        left = sorted(texts, key=lambda hashed: len(texts[hashed]))
        found: dict[str, Vector] = {}
        while left:
            try:
                result = self.embedder.embed_documents([texts[hashed] for hashed in left])
            except EmbeddingRejected as error:
                named = {left[at] for at in error.positions if 0 <= at < len(left)}
                if not named:
                    raise
                refused |= dict.fromkeys(named, str(error))
                left = [hashed for hashed in left if hashed not in named]
                continue
            self.metrics.embedding_calls.inc(result.calls)
            self.metrics.embedding_texts.inc(len(left))
            self.metrics.embedding_tokens.inc(result.tokens)
            if len(self.spare) + len(left) > _SPARE:
                self.spare.clear()
            for hashed, vector in zip(left, result.vectors, strict=True):
                found[hashed] = self.spare[self.tenant, hashed] = np.array(vector, dtype=np.float32)
            break
        if refused:
            raise TextsRefused(refused, next(iter(refused.values())))
        return found
