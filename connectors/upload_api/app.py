"""The upload API put together: routes, problems, identity, health. Before this: `main.py`; after this: uvicorn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter

from connectors.document_body import MAX_TEXT_BYTES
from connectors.upload_api import documents, events, follow, uploads
from connectors.upload_api.ports import Parts
from connectors.upload_api.receive import MAX_FIELD_BYTES, MAX_FIELDS, too_large
from runtime.identity.callers import Tokens
from runtime.settings import Web
from runtime.web import audit, docs_page, health, identity, limits, openapi, problems
from runtime.web.body_guard import BodyGuard
from runtime.web.body_guard import too_large as body_too_large
from runtime.web.health import Check
from runtime.web.identity import Keys
from runtime.web.limits import RateLimits
from runtime.web.requests import RequestMiddleware
from runtime.web.strings import WellFormedStrings

JSON_LIMIT = MAX_TEXT_BYTES * 5 // 4
"""A text of the longest kind with its escapes and metadata; bytes."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    parts: Parts,
    *,
    keys: Keys,
    checks: Sequence[Check],
    registry: CollectorRegistry,
    http_requests: Counter,
    version: str,
    log: audit.Log,
    web: Web = Web(),  # noqa: B008  # frozen
    rates: RateLimits | None = None,
    tokens: Tokens | None = None,
    lifespan: Lifespan | None = None,
    idle_s: float = 30.0,
    grace_s: float = 20.0,
    linger_s: float = 2.0,
) -> FastAPI:
    """The whole application. http_requests has the labels method, route, status; idle_s, grace_s and linger_s: see
    BodyGuard.

    log: where it is said who did what.
    """
    app = FastAPI(
        title="Thalweg upload API",
        version=version,
        summary="Files, documents and events in; each is answered once it is durable.",
        lifespan=lifespan,
        openapi_url="/openapi.json" if web.docs else None,
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    openapi.install(app)
    identity.install(app, keys, parts.now_ms, tokens)
    audit.install(app, log, parts.now_ms)
    limits.install(app, rates)
    for router in (uploads.routes(parts), follow.routes(parts), documents.routes(parts), events.routes(parts)):
        app.include_router(router)
    app.include_router(health.router(checks, registry, version=version))
    if web.docs:
        docs_page.install(app)
    frame = (MAX_FIELDS + 1) * MAX_FIELD_BYTES
    app.add_middleware(WellFormedStrings)
    app.add_middleware(
        BodyGuard,
        idle_s=idle_s,
        grace_s=grace_s,
        linger_s=linger_s,
        limits={"/v1/uploads": parts.max_bytes + frame, "*": JSON_LIMIT},
        refuse=lambda path, limit: too_large(parts.max_bytes) if path == "/v1/uploads" else body_too_large(path, limit),
    )
    app.add_middleware(RequestMiddleware, counter=http_requests, origins=web.cors_origins)
    app.add_middleware(audit.AuditMiddleware, log=log, now_ms=parts.now_ms)
    return app
