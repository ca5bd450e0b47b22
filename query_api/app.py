"""The FastAPI app, from parts that are passed in. Before it: `bootstrap.py`. After it: `routes/queries.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.responses import Response

from query_api.errors import KINDS, problem_of
from query_api.retrieval.lookups import Lookups
from query_api.routes import access, further, queries
from query_api.routes.feedback import Ratings
from query_api.service import QueryService
from runtime.identity.callers import Tokens
from runtime.metrics import Metrics
from runtime.privacy.sealing import Seals
from runtime.progress import Progress
from runtime.settings import Web
from runtime.web import audit, docs_page, health, identity, limits, openapi, problems
from runtime.web.body_guard import BodyGuard
from runtime.web.limits import RateLimits
from runtime.web.requests import RequestMiddleware
from runtime.web.strings import WellFormedStrings

MOST_BODY_BYTES = 1_048_576
"""A search with 1,000 values in a filter is about 100 KB."""

MOST_LOGIN_BYTES = 16_384
"""Of `/v1/login`, whose sender nobody knows yet."""

_BODY_S = 20.0
"""Whoever needs longer for a body must send the longest one within this time, and is given up otherwise."""


@dataclass(frozen=True)
class Deps:
    """What the app needs. start and stop run around its life; both are bounded."""

    service: QueryService
    lookups: Lookups
    progress: Progress
    ratings: Ratings
    keys: identity.Keys
    limits: RateLimits | None
    metrics: Metrics
    checks: Sequence[health.Check]
    now_ms: Callable[[], int]
    version: str
    start: Callable[[], Awaitable[None]]
    stop: Callable[[], Awaitable[None]]
    log: audit.Log
    people: access.People
    web: Web = field(default_factory=Web)
    seals: Seals = field(default_factory=Seals)
    tokens: Tokens | None = None


def create_app(deps: Deps, *, idle_s: float = 10.0, linger_s: float = 2.0) -> FastAPI:
    """The query API. idle_s, linger_s: see BodyGuard."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        await deps.start()
        try:
            yield
        finally:
            await deps.stop()

    app = FastAPI(
        title="Thalweg query API",
        version=deps.version,
        summary="Hits and cited answers, as fresh as their sources.",
        lifespan=life,
        openapi_url="/openapi.json" if deps.web.docs else None,
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(queries.router(deps.service, deps.lookups, deps.progress, deps.seals))
    app.include_router(access.open_router(deps.people))
    app.include_router(access.router(deps.people))
    app.include_router(further.router(deps.service, deps.progress, deps.ratings, deps.now_ms, deps.seals))
    app.include_router(health.router(deps.checks, deps.metrics.registry, version=deps.version))
    problems.install(app)
    openapi.install(app)
    identity.install(app, deps.keys, deps.now_ms, deps.tokens)
    audit.install(app, deps.log, deps.now_ms)
    limits.install(app, deps.limits, reads=queries.READS | further.READS)
    for error, _, _ in KINDS:
        app.add_exception_handler(error, _answered)
    if deps.web.docs:
        docs_page.install(app)
    app.add_middleware(WellFormedStrings)
    app.add_middleware(
        BodyGuard,
        limits={"/v1/login": MOST_LOGIN_BYTES, "*": MOST_BODY_BYTES},
        idle_s=idle_s,
        grace_s=_BODY_S,
        min_rate=MOST_BODY_BYTES / _BODY_S,
        linger_s=linger_s,
    )
    app.add_middleware(RequestMiddleware, counter=deps.metrics.http_requests, origins=deps.web.cors_origins)
    app.add_middleware(audit.AuditMiddleware, log=deps.log, now_ms=deps.now_ms)
    return app


async def _answered(request: Request, error: Exception) -> Response:
    problem = problem_of(error) or problems.unexpected(error)
    return problems.response_of(problem, request.state.request_id)
