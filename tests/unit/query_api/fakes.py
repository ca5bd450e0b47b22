"""Ports of the query API in memory, and an app around them: what unit and integration tests share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from query_api.answer_cache.cache import AnswerCache
from query_api.answer_cache.store import AnswerStore, MemoryStore
from query_api.answering.answers import Answerer
from query_api.answering.extractive import Extractive
from query_api.app import Deps, create_app
from query_api.asking.fair_queue import FairQueue
from query_api.asking.masked_questions import QuestionMasking
from query_api.retrieval.lookups import Lookups
from query_api.retrieval.ports import Index, QueryEmbedder
from query_api.retrieval.reranking import Reranker
from query_api.retrieval.search import Retrieval
from query_api.routes.access import People
from query_api.routes.feedback import Ratings
from query_api.service import QueryService
from runtime.access import SCOPES, ApiKey, KnowledgeBase, Role, Scope, digest
from runtime.access_changes import AccessChanges
from runtime.identity.callers import Tokens
from runtime.identity.logins import Logins
from runtime.metrics import Metrics, declare
from runtime.privacy.sealing import Seals
from runtime.producer import Delivery, DeliveryFailed, Outgoing
from runtime.progress import Accepted, Progress
from runtime.settings import Limits, QueryApi
from runtime.web.health import Check
from runtime.web.limits import RateLimits
from schemas.records import Record
from tests.support.access_topic import AccessReplica, AccessTopic
from tests.support.fake_audit import FakeAudit

NOW_MS = 1_000_000


def api_key(
    key: str,
    *,
    tenant: str = "acme",
    scopes: tuple[Scope, ...] = ("query",),
    roles: dict[str, Role] | None = None,
    groups: tuple[str, ...] = (),
    expires_ms: int | None = None,
    active: bool = True,
) -> ApiKey:
    """A stored key whose holder is called like the key."""
    granted: dict[str, Role] = {"*": "viewer"} if roles is None else roles
    return ApiKey(key, digest(key), key, tenant, scopes, granted, groups, expires_ms, active)


@dataclass
class FakeDirectory:
    """Keys and knowledge bases, as they stand."""

    known: list[ApiKey] = field(default_factory=lambda: [api_key("tw_admin", scopes=SCOPES), api_key("tw_reader")])
    held: list[KnowledgeBase] = field(default_factory=lambda: [KnowledgeBase("acme", "handbook")])
    ready: bool = True
    connected: bool = True

    def find_key(self, key_digest: str, now_ms: int) -> ApiKey | None:
        for key in self.known:
            alive = key.active and (key.expires_ms is None or key.expires_ms > now_ms)
            if key.digest == key_digest and alive:
                return key
        return None

    def bases(self, tenant: str) -> list[KnowledgeBase]:
        return [base for base in self.held if base.tenant == tenant]


@dataclass
class FakeFreshness:
    """Knows at once what its progress knows; asked records the waits."""

    progress: Progress = field(default_factory=Progress)
    connected: bool = True
    asked: list[float] = field(default_factory=list)

    async def wait(self, positions: Sequence[Accepted], timeout_s: float) -> list[Accepted]:
        self.asked.append(timeout_s)
        return [position for position in positions if not self.progress.ended(position)]


@dataclass
class FakeLog:
    """Kafka: what was sent; fails on command."""

    records: list[Record] = field(default_factory=list)
    fails: DeliveryFailed | None = None

    def encode(self, topic: str, record: Record) -> bytes:
        self.records.append(record)
        return topic.encode()

    async def send_async(self, records: Iterable[Outgoing]) -> list[Delivery]:
        if self.fails is not None:
            raise self.fails
        return [Delivery(outgoing.topic, 0, len(self.records) - 1, NOW_MS) for outgoing in records]


@dataclass
class Parts:
    """What an app was made of, for tests to look at."""

    app: FastAPI
    service: QueryService
    directory: FakeDirectory
    freshness: FakeFreshness
    metrics: Metrics
    audit: FakeAudit
    log: FakeLog
    client: httpx.AsyncClient


def kept_in_memory() -> MemoryStore:
    """Room for all answers of a test."""
    return MemoryStore(most_bytes=10_000_000, most_entries=10_000, seconds=3600)


async def _nothing() -> None:
    return None


def people_of(
    replica: AccessReplica, *, logins: Logins | None = None, now_ms: Callable[[], int] = lambda: NOW_MS
) -> People:
    """What the access routes need, around this replica of the topic."""
    return People(AccessChanges(replica, now_ms, longest_key_days=365), logins, "acme", now_ms)


def app_around(
    index: Index,
    embedder: QueryEmbedder,
    *,
    answerer: Answerer | None = None,
    reranker: Reranker | None = None,
    store: AnswerStore | None = None,
    directory: FakeDirectory | None = None,
    freshness: FakeFreshness | None = None,
    settings: QueryApi | None = None,
    checks: Sequence[Check] = (),
    clock: Callable[[], float] | None = None,
    stop: Callable[[], Awaitable[None]] = _nothing,
    mask_key: str | None = None,
    seal_keys: Sequence[str] = (),
    rates: Limits | None = None,
    instead: Answerer | None = None,
    queue: FairQueue | None = None,
    people: People | None = None,
    tokens: Tokens | None = None,
    idle_s: float = 10.0,
) -> Parts:
    """An app over these ports, and a client that holds the key `tw_admin`."""
    directory = directory or FakeDirectory()
    metrics, audit, log = declare(CollectorRegistry()), FakeAudit(), FakeLog()
    freshness = freshness or FakeFreshness()
    timing = {} if clock is None else {"clock": clock}
    service = QueryService(
        index=index,
        retrieval=Retrieval(index, embedder, reranker),
        answerer=answerer or Extractive(),
        instead=instead,
        cache=AnswerCache(store or kept_in_memory(), metrics.cache_requests),
        bases=directory,
        freshness=freshness,
        settings=settings or QueryApi(),
        metrics=metrics,
        masking=QuestionMasking(mask_key),
        queue=queue or FairQueue(100, most_waiting=100, longest_wait_s=10),
        **timing,
    )
    app = create_app(
        Deps(
            service=service,
            lookups=Lookups(index, freshness.progress, lambda: NOW_MS),
            progress=freshness.progress,
            ratings=Ratings(log, log, metrics),
            keys=directory,
            limits=None if rates is None else RateLimits(rates, metrics),
            metrics=metrics,
            checks=checks,
            now_ms=lambda: NOW_MS,
            version="test",
            start=_nothing,
            stop=stop,
            log=audit,
            people=people or people_of(AccessReplica(AccessTopic())),
            tokens=tokens,
            seals=Seals(seal_keys),
        ),
        idle_s=idle_s,
        linger_s=0,
    )
    client = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
        base_url="http://test",
        headers={"Authorization": "Bearer tw_admin"},
    )
    return Parts(app, service, directory, freshness, metrics, audit, log, client)
