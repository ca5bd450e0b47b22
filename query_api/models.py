"""The JSON of requests and answers. Unknown fields are refused. Before it: HTTP. After it: `service.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.records import MetadataValue

LONGEST_WAIT_MS = 30_000
MOST_NAMES = 100
MOST_POSITIONS = 1000
"""As many as one request can publish documents."""
MOST_NEIGHBOURS = 3


class _Request(BaseModel):
    # Strict: `false` is no number, and "5" none either; a caller who means them has made a mistake.
    model_config = ConfigDict(extra="forbid", strict=True)


class SearchRequest(_Request):
    """A search."""

    query: str = Field(description="What to look for; at most 1,000 characters unless configured otherwise.")
    knowledge_bases: list[str] | None = Field(
        None, min_length=1, max_length=MOST_NAMES, description="None: all that the key may read."
    )
    filters: dict[str, Any] | None = Field(
        None,
        description='`{"year": {"gte": 2020}, "or": [{"team": "a"}, {"team": {"in": ["b", "c"]}}]}`; operators eq, ne, '
        "gt, gte, lt, lte, in, nin; keys are metadata, `source` and `document_id`.",
    )
    doc_ids: list[str] | None = Field(None, min_length=1, max_length=MOST_NAMES, description="Only these documents.")
    limit: int = Field(5, ge=1, description="Most hits that come back.")
    mode: Literal["hybrid", "vector", "keyword"] = "hybrid"
    rerank: bool | None = Field(
        None,
        description="Let a model order the hits anew. None: if one is configured. If it is away, `degraded` says so.",
    )
    neighbours: int = Field(
        0, ge=0, le=MOST_NEIGHBOURS, description="Chunks before and after each hit that come along."
    )
    per_document: int | None = Field(
        None,
        ge=0,
        description="Most hits of one document; 0: any number. None: as configured, any number with doc_ids.",
    )
    per_source: int | None = Field(
        None, ge=0, description="Most hits of one source, against a source that was flooded; 0: any number."
    )
    distinct: bool = Field(False, description="Show a text once, also where several documents hold it.")
    explain: bool = Field(False, description="Tell the parts of each score: `keyword`, `vector`, `fused`, `rerank`.")
    min_position: str | Annotated[list[str], Field(max_length=MOST_POSITIONS)] | None = Field(
        None, description="Positions of accepted writes (`topic/partition@offset`) that the index must have reached."
    )
    wait_ms: int = Field(0, ge=0, le=LONGEST_WAIT_MS, description="How long to wait for `min_position`.")


class NeighbourBody(BaseModel):
    """A chunk beside a hit; `text` is exactly the characters [start, end) of the document's text."""

    chunk_id: str
    text: str
    start: int
    end: int
    heading: list[str]
    page: int | None


class NeighboursBody(BaseModel):
    """What stands around a hit in the same version of its document, in the document's order."""

    before: list[NeighbourBody]
    after: list[NeighbourBody]


class HitBody(BaseModel):
    """A chunk that was found. `text` is exactly the characters [start, end) of the document's text."""

    document_id: str
    knowledge_base: str
    chunk_id: str
    text: str
    title: str | None
    score: float
    start: int
    end: int
    heading: list[str]
    page: int | None
    metadata: dict[str, MetadataValue]
    source: str
    version: str
    explain: dict[str, float] | None = None
    neighbours: NeighboursBody | None = None


class SearchResponse(BaseModel):
    """Hits, best first. position: the accepted write that ended last, where known."""

    hits: list[HitBody]
    position: str | None
    generation: str
    took_ms: float
    degraded: list[str] = Field(
        description="Parts that were wanted and left out, as they were away: `embedding` (found by keywords alone), "
        "`rerank`, `answer` (extracted); the last two also where a document is restricted."
    )


class CitationBody(BaseModel):
    """`quote` is verbatim the characters [start, end) of the document's text; `hit` is an index into `hits`."""

    hit: int
    document_id: str
    knowledge_base: str
    version: str
    chunk_id: str
    quote: str
    start: int
    end: int
    answer_start: int
    answer_end: int


class QueryResponse(BaseModel):
    """An answer. model `extractive`: the answer is quoted from the hits; no model wrote it."""

    answer_id: str = Field(description="For `POST /v1/feedback`.")
    answer: str
    citations: list[CitationBody]
    hits: list[HitBody]
    model: str
    cached: bool = Field(description="The answer was written earlier, from the same hits; `usage` is 0 then.")
    usage: dict[str, int]
    cost: float | None = Field(description="US dollars by the configured prices; null: the model has no price there.")
    position: str | None
    generation: str
    took_ms: float
    degraded: list[str] = Field(
        description="As in a search; `answer`: quoted here, for a document is restricted and the model not ours."
    )


class ChunkBody(BaseModel):
    """One chunk of a document, in its order."""

    chunk_id: str
    text: str | None
    start: int
    end: int
    heading: list[str]
    page: int | None


class DocumentResponse(BaseModel):
    """A document's newest version as it is indexed. chunk_count counts all chunks, `chunks` holds a page of them."""

    document_id: str
    knowledge_base: str
    version: str
    title: str | None
    metadata: dict[str, MetadataValue]
    access: list[str] | None
    source: str
    origin: dict[str, str | int]
    indexed_ms: int
    chunk_count: int
    chunks: list[ChunkBody]
    generation: str


class FreshnessBody(BaseModel):
    """Seconds from the source's commit to searchable, of the last five minutes; null where nothing came."""

    p50: float | None
    p95: float | None
    samples: int


class StatsResponse(BaseModel):
    """What the caller's knowledge bases hold. documents is null unless the key is an admin's."""

    documents: int | None
    total_documents: int | None = Field(description="The same as `documents`.")
    chunks: int
    knowledge_bases: list[str]
    index_type: Literal["hybrid"] = Field(description="Chunks are found by vectors and by keywords.")
    generation: str
    model: str
    dimension: int
    freshness: FreshnessBody
    position: str | None
    timestamp: datetime = Field(description="When this was counted, in UTC.")
