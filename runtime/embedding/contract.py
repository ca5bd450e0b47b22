"""What an embedding model owes its callers; before it the vendors, after it indexing and asking.

Callers see this module only: a fingerprint that names the model, two calls (documents and
queries are not the same thing to every model), and three errors that say what to do next.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Role = Literal["document", "query"]


class EmbeddingError(Exception):
    """Something kept texts from becoming vectors; which subclass says what to do about it."""


class EmbeddingUnavailable(EmbeddingError):
    """Ask again later: the model is away, busy or slow. `retry_after` is the server's wish in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class EmbeddingReplyInvalid(EmbeddingUnavailable):
    """The model answered, but nothing in the answer may be stored: too few vectors, NaN, wrong order.

    May pass when asked again, hence the parent. If it stays, halve the batch: one text can be the cause. A server that
    answers a harmless text as badly is merely unavailable.
    """


class EmbeddingRejected(EmbeddingError):
    """Never: the model refuses these texts, and will again. The rest of the batch is fine.

    `positions` are the indexes of the refused texts in the sequence that was passed in.
    """

    def __init__(self, message: str, positions: Sequence[int]) -> None:
        super().__init__(message)
        self.positions = tuple(positions)


class EmbeddingMisconfigured(EmbeddingError):
    """A person has to act: wrong key, unknown model, wrong dimension, model not set up."""


@dataclass(frozen=True)
class ModelFingerprint:
    """All that decides which vector a text gets. Two equal fingerprints may share one index.

    `max_tokens`: a text is cut behind so many tokens, special tokens included. `revision`: whatever
    tells two states of one model apart (weights, quantisation, prefixes); empty if nothing is known.
    """

    provider: str
    model: str
    revision: str
    dimension: int
    max_tokens: int
    normalised: bool

    def key(self) -> str:
        """A short id of `[a-z0-9_]`, stable between releases; fit for collection names and reuse of vectors."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(canonical.encode()).hexdigest()[:12]
        slug = re.sub(r"[^a-z0-9]+", "_", self.model.rsplit("/", 1)[-1].lower()).strip("_")[:24].strip("_")
        return f"{slug}_{digest}"

    def record(self) -> dict[str, str | int | bool]:
        """The fields as plain values, for a manifest or a generation's description."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> "ModelFingerprint":
        """Read what `record` wrote; further keys are ignored. Raises ValueError for a missing or odd field."""
        values: dict[str, object] = {}
        for name, wanted in cls.__annotations__.items():
            value = record.get(name)
            if type(value) is not wanted:
                raise ValueError(f"model fingerprint: field {name!r} should be {wanted.__name__}, is {value!r}")
            values[name] = value
        return cls(**values)  # type: ignore[arg-type]  # each was checked against the annotation above


@dataclass(frozen=True, eq=False)
class EmbedResult:
    """`vectors`: float32, shape [texts, dimension], finite, unit length, row i belongs to text i.

    `tokens`: what the model counted (an estimate where a server says nothing). `calls`: how often the
    model was asked, 0 for an empty batch.
    """

    vectors: Vectors
    tokens: int
    calls: int


class Embedder(Protocol):
    """Turns texts into vectors. Blocking, safe to call from several threads, bounded in time."""

    @property
    def fingerprint(self) -> ModelFingerprint:
        """Which model this is; constant for the life of the object."""
        ...

    def embed_documents(self, texts: Sequence[str]) -> EmbedResult:
        """Vectors of texts to be found, any number of them, in the order given; all or an EmbeddingError.

        A text longer than the model reads is cut at its end (local, Cohere) or refused (some servers).
        A blank text is embedded (local) or refused (remote), never silently left out. An error loses
        what the call had so far: hand over batches that you are ready to send again.
        """
        ...

    def embed_query(self, text: str) -> EmbedResult:
        """The vector of a question, shape [1, dimension]; same errors."""
        ...

    def count_tokens(self, text: str) -> int:
        """How many tokens the text is to the model, uncut, special tokens included. No I/O.

        Exact for the local model; for remote ones an estimate that rather says too many.
        """
        ...
