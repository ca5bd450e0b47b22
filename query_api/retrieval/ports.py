"""What a search needs from outside, as protocols: the index and the embedding model. No vendor is named here.

Before it: `search.py` (which asks). After it: `weaviate_index.py` and `query_embedding.py` (which answer).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from query_api.retrieval.filters import Filter
from query_api.retrieval.rights import Rights
from schemas.index.contract import Generation
from schemas.index.manifest import Manifest

Mode = Literal["hybrid", "vector", "keyword"]

EMBEDDING = "embedding"
"""The name of this part: in `degraded`, in the breakers' states, and in the settings."""


class Passing(Exception):
    """A part is away, busy or slow: what passes with time. A breaker counts these alone.

    retry_after_s: when the part may be asked again, in seconds, where it or its breaker said so.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class IndexUnavailable(Passing):
    """The store does not answer, or not in time: again later. The text may be shown to a caller."""


class NoIndex(Exception):
    """There is no live generation yet."""


class ModelMismatch(Exception):
    """No embedding model that is configured here is the one the live generation was built with."""


class ModelUnavailable(Exception):
    """The embedding model gives no vector: a person has to act, or it refuses this text. The text may be shown to a
    caller.
    """


class ModelLater(Passing, ModelUnavailable):
    """The embedding model is away, busy or slow."""


@dataclass(frozen=True)
class Live:
    """The generation that the alias points to, and its filterable metadata: key -> data type -> property."""

    generation: Generation
    keys: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Criteria:
    """Which chunk objects may come back at all. documents None: of any document."""

    rights: Rights
    filter: Filter | None = None
    documents: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Candidate:
    """A chunk object that matched; whether it counts is for the manifests to say. parts: score by leg of a hybrid."""

    chunk_id: str
    document: str
    source: str
    text: str
    score: float
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask:
    """What to look for. vector is None for keyword searches; explain asks for the parts of each score."""

    text: str
    mode: Mode
    vector: Sequence[float] | None
    limit: int
    explain: bool = False


class Index(Protocol):
    """The store. A tenant it does not know has no objects. All but `live` raise IndexUnavailable and NoIndex too."""

    async def live(self, *, keys: bool = False, anew: bool = False) -> Live:
        """The live generation, at most a second old; its keys may be older unless `keys` says that they are needed.

        anew: all of it looked up after this call began. Raises NoIndex, IndexUnavailable.
        """
        ...

    async def candidates(self, live: Live, criteria: Criteria, ask: Ask) -> list[Candidate]:
        """At most ask.limit matches, best first, none of them retired; never a vector."""
        ...

    async def manifests(self, live: Live, tenant: str, documents: Collection[str]) -> list[Manifest]:
        """All manifests and barriers under these document keys that are not superseded."""
        ...

    async def texts(self, live: Live, tenant: str, chunk_ids: Sequence[str]) -> dict[str, str]:
        """The texts of these chunks; one that is gone is left out."""
        ...

    async def has(self, live: Live, criteria: Criteria, name: str, data_type: str) -> bool:
        """True if a chunk that meets the criteria has a value of this property, which is of this data type."""
        ...

    async def keys_in_use(self, live: Live, criteria: Criteria) -> list[str]:
        """The metadata keys that chunks which meet the criteria have."""
        ...

    async def count(self, live: Live, criteria: Criteria) -> tuple[int, int]:
        """(documents, chunks) that the criteria's knowledge bases hold; chunks by all criteria."""
        ...


class QueryEmbedder(Protocol):
    """The models that turn questions into vectors, one for each generation that can be live."""

    async def embed(self, generation: Generation, text: str) -> list[float]:
        """The question's vector by the model that made this generation. Raises ModelMismatch, ModelUnavailable."""
        ...
