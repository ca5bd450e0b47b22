"""The composition root: from settings to a running query API. Nothing else knows which vendors there are.

Before it: `commands.py`. After it: `app.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from importlib.metadata import PackageNotFoundError, version

import httpx
import uvicorn
from fastapi import FastAPI

from query_api.answer_cache.cache import AnswerCache
from query_api.answer_cache.store import AnswerStore, MemoryStore
from query_api.answering.extractive import Extractive
from query_api.answering.model_http import answering_client
from query_api.answering.restricted import KeepsRestricted
from query_api.answering.select import answerer_from
from query_api.app import Deps, create_app
from query_api.asking.fair_queue import FairQueue
from query_api.asking.masked_questions import QuestionMasking
from query_api.checks import checks
from query_api.circuits import Circuits, SparedAnswerer, SparedReranker
from query_api.retrieval.lookups import Lookups
from query_api.retrieval.ports import IndexUnavailable, ModelMismatch, ModelUnavailable, NoIndex
from query_api.retrieval.query_embedding import ThreadedEmbedder
from query_api.retrieval.rerank_models import reranker_from
from query_api.retrieval.search import Retrieval
from query_api.retrieval.weaviate_index import WeaviateIndex
from query_api.retrieval.weaviate_link import WeaviateLink
from query_api.routes.access import People
from query_api.routes.feedback import Ratings
from query_api.service import QueryService
from runtime import logs
from runtime.access_changes import AccessChanges
from runtime.audit import AuditLog
from runtime.clock import now_ms
from runtime.directory import Directory, demo_keys
from runtime.embedding.select import embedder_of
from runtime.freshness import Freshness
from runtime.identity.build import logins, token_callers
from runtime.identity.signing import signing_of
from runtime.metrics import Metrics, metrics
from runtime.privacy.sealing import Seals
from runtime.producer import ConfirmedProducer
from runtime.settings import Settings, SettingsError
from runtime.settings_answer_cache import AnswerCache as AnswerCacheSettings
from runtime.spending import Spending
from runtime.web.limits import RateLimits
from runtime.web.serving import server_config
from schemas.codec import Codec
from schemas.registry import Registry

_SEARCH_S = 5.0
"""Longest wait for one question to Weaviate: they take 20 ms, so after 5 s no answer is coming."""

_EMBED_S = 10.0
_EMBED_THREADS = 2
_AT_ONCE = 8
"""Searches side by side with a remote model, for they mostly wait for it; and the most with any."""

_GRACE_S = 30


def build(settings: Settings, counted: Metrics) -> FastAPI:
    """The app with everything it needs; connections are made when it starts. Raises SettingsError."""
    codec = Codec(Registry(settings.registry.url, timeout_s=5.0))
    producer = ConfirmedProducer(
        settings.kafka.bootstrap, client_id="thalweg-query", timeout_s=settings.kafka.request_timeout_s
    )
    directory = Directory(settings.kafka.bootstrap, codec, producer=producer, own_keys=demo_keys(settings))
    freshness = Freshness(settings.kafka.bootstrap, codec, now_ms)
    key, mask_key = settings.weaviate.api_key, settings.privacy.mask_key
    circuits = Circuits.told_to(counted.circuit_told)
    link = WeaviateLink(
        settings.weaviate.url,
        settings.weaviate.grpc,
        key.get_secret_value() if key else None,
        timeout_s=min(settings.weaviate.timeout_s, _SEARCH_S),
        breaker=circuits.weaviate,
    )
    index = WeaviateIndex(link)
    embedder = ThreadedEmbedder(
        lambda generation: embedder_of(generation.embedding, settings.embedding),
        counted,
        threads=_EMBED_THREADS,
        timeout_s=min(settings.embedding.timeout_s, _EMBED_S),
        breaker=circuits.embedding,
    )
    cache = AnswerCache(answer_store(settings.answer_cache), counted.cache_requests)
    http = answering_client(settings.answer.timeout_s)
    model = reranker_from(settings.rerank)
    reranker = None if model is None else SparedReranker(model, circuits.rerank)
    writer = answerer_from(settings.answer, http, Spending(settings.prices, counted))
    spared = SparedAnswerer(writer, circuits.answer)
    sends_out = settings.answer.provider != "extractive" and not settings.answer.trusted

    signing, issuers = signing_of(settings), httpx.AsyncClient()  # fetches the identity provider's keys
    changes = AccessChanges(directory, now_ms, longest_key_days=settings.access.longest_key_days)
    audit = AuditLog(producer, codec, counted.audit_entries)

    async def start() -> None:
        audit.start()
        directory.start()
        freshness.start()
        # Loaded before the first question; what fails here is told by /ready and tried again then.
        with contextlib.suppress(ModelUnavailable, ModelMismatch, IndexUnavailable, NoIndex):
            await embedder.ready((await index.live()).generation)

    async def stop() -> None:
        await cache.close()
        await link.close()
        await http.aclose()
        await issuers.aclose()
        if reranker is not None:
            await reranker.close()
        embedder.close()
        await asyncio.gather(asyncio.to_thread(directory.close), asyncio.to_thread(freshness.close))
        await asyncio.to_thread(audit.close)
        await asyncio.to_thread(producer.close)

    return create_app(
        Deps(
            service=QueryService(
                index=index,
                retrieval=Retrieval(
                    index,
                    embedder,
                    reranker,
                    rerank_depth=settings.rerank.candidates,
                    rerank_trusted=settings.rerank.trusted,
                ),
                answerer=KeepsRestricted(spared) if sends_out else spared,
                instead=Extractive(),
                cache=cache,
                bases=directory,
                freshness=freshness,
                settings=settings.query,
                metrics=counted,
                masking=QuestionMasking(mask_key.get_secret_value() if mask_key else None),
                queue=FairQueue(
                    places(settings),
                    most_waiting=settings.query.waiting_per_tenant,
                    longest_wait_s=settings.query.longest_turn_s,
                    waiting=counted.searches_waiting,
                ),
            ),
            lookups=Lookups(index, freshness.progress, now_ms),
            progress=freshness.progress,
            ratings=Ratings(producer, codec, counted),
            keys=directory,
            limits=RateLimits(settings.limits, counted),
            metrics=counted,
            checks=checks(index, embedder, directory, freshness, circuits.all),
            now_ms=now_ms,
            version=_version(),
            start=start,
            stop=stop,
            log=audit,
            web=settings.web,
            seals=Seals(settings.privacy.sealing),
            people=People(changes, logins(settings, directory.state, signing), settings.tenant, now_ms),
            tokens=token_callers(settings, directory.state, signing, issuers),
        )
    )


def answer_store(settings: AnswerCacheSettings) -> AnswerStore:
    """Where answers are kept, as the settings say; nobody is asked yet. Raises SettingsError."""
    if settings.url is None or settings.secret is None:
        return MemoryStore(most_bytes=settings.most_bytes, most_entries=settings.most_entries, seconds=settings.seconds)
    from query_api.answer_cache.redis_store import RedisStore

    try:
        return RedisStore(
            settings.url.get_secret_value(),
            settings.secret.get_secret_value(),
            seconds=settings.seconds,
            timeout_s=settings.timeout_s,
        )
    except ValueError as error:
        raise SettingsError("answer_cache.url is no redis:// or rediss:// URL") from error


def served_as(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    """How uvicorn serves the app."""
    return server_config(app, host, port, keep_alive_s=75, grace_s=_GRACE_S)


def places(settings: Settings) -> int:
    """Searches side by side.

    The local model takes a processor for most of a search: more of them than processors are served no sooner, and
    whoever's turn comes then runs among all of them. A container may have a share of many processors, hence the bound.
    """
    if settings.query.at_once is not None:
        return settings.query.at_once
    if settings.embedding.provider == "local":
        return min(_AT_ONCE, max(2, os.cpu_count() or 2))
    return _AT_ONCE


def serve(settings: Settings) -> None:
    """Run the query API until SIGTERM or SIGINT; requests under way get 30 s. Raises SettingsError."""
    logs.configure(settings.log_level)
    app = build(settings, metrics())
    config = served_as(app, settings.query.host, settings.query.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal once more after its orderly end; that end was asked for, and is no failure.
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run()


def _version() -> str:
    try:
        return version("thalweg")
    except PackageNotFoundError:
        return "0"
