"""ports.Index in memory: holds candidates and manifests as a test puts them, filters by rights only."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from query_api.retrieval.ports import Ask, Candidate, Criteria, Live
from schemas.index.contract import Generation
from schemas.index.manifest import Manifest, Span
from schemas.records import Origin, Position

LIVE = Live(Generation("model_a", 2, "test"), {"year": {"number": "f_n_year"}, "team": {"text": "f_s_team"}})


def candidate(document: str, chunk: str = "c", *, text: str = "text", score: float = 1.0) -> Candidate:
    return Candidate(chunk, document, "shop", text, score)


def manifest(
    document: str,
    *chunks: str,
    major: int = 1,
    stream: str = "cdc/shop",
    source: str = "shop",
    access: tuple[str, ...] | None = None,
    grave: bool = False,
    length: int = 4,
) -> Manifest:
    """length: characters of each chunk's text, that of `candidate` unless told."""
    step = max(10, length)
    return Manifest(
        document=document,
        position=Position(stream, 1, major, 1, major),
        origin=Origin("cdc", source, "1", "t", 0, major),
        spans=tuple(Span(chunk, "hash", at * step, at * step + length) for at, chunk in enumerate(chunks)),
        access=access,
        grave=grave,
    )


@dataclass
class FakeIndex:
    """before_manifests runs before each fetch of manifests: what a writer does between the two questions."""

    held: list[Candidate] = field(default_factory=list)
    listed: list[Manifest] = field(default_factory=list)
    now: Live = LIVE
    asks: list[Ask] = field(default_factory=list)
    criteria: list[Criteria] = field(default_factory=list)
    fetched: list[set[str]] = field(default_factory=list)
    before_manifests: Callable[[], None] = lambda: None
    fails: Exception | None = None
    used: set[str] = field(default_factory=lambda: {"f_n_year", "f_s_team"})
    sought: list[str] = field(default_factory=list)
    hinted: int = 0
    later: Live | None = None

    async def live(self, *, keys: bool = False, anew: bool = False) -> Live:
        if anew and self.later is not None:
            self.now = self.later
        if self.fails is not None:
            raise self.fails
        return self.now

    async def candidates(self, live: Live, criteria: Criteria, ask: Ask) -> list[Candidate]:
        assert live is self.now
        self.asks.append(ask)
        self.criteria.append(criteria)
        return self.held[: ask.limit]

    async def manifests(self, live: Live, tenant: str, documents: Collection[str]) -> list[Manifest]:
        assert live is self.now
        self.before_manifests()
        self.fetched.append(set(documents))
        return [item for item in self.listed if item.document in documents]

    async def texts(self, live: Live, tenant: str, chunk_ids: Sequence[str]) -> dict[str, str]:
        return {item.chunk_id: item.text for item in self.held if item.chunk_id in chunk_ids}

    async def has(self, live: Live, criteria: Criteria, name: str, data_type: str) -> bool:
        assert live.keys[name[4:]][data_type] == name
        self.sought.append(name)
        return name in self.used

    async def keys_in_use(self, live: Live, criteria: Criteria) -> list[str]:
        self.hinted += 1
        return ["year"]

    async def count(self, live: Live, criteria: Criteria) -> tuple[int, int]:
        return len(self.listed), len(self.held)


class FakeEmbedder:
    """ports.QueryEmbedder: counts, and fails on command."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.fails = fails
        self.asked: list[tuple[str, str]] = []

    async def embed(self, generation: Generation, text: str) -> list[float]:
        if self.fails is not None:
            raise self.fails
        self.asked.append((generation.model, text))
        return [1.0, 0.0]
