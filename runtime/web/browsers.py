"""What browsers are told: security headers on every answer, and which web pages may call the APIs (CORS).

Before it: `settings.Web`. After it: `requests.py`, which puts both around an app. References: OWASP Secure Headers;
Fetch, "CORS protocol"; RFC 6797 (HSTS; over plain HTTP browsers ignore it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Strict-Transport-Security": "max-age=31536000",
}
"""On every answer, unless a route sets one of its own."""

_PREFLIGHT_S = 600
_ASKED = ("Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-ID")
_SHOWN = ("X-Request-ID", "Location", "Retry-After", "RateLimit", "RateLimit-Policy")


def add_headers(message: Message, request_id: str, more: Mapping[str, str]) -> None:
    """Put the headers on an answer that begins; more: such as what is left of a rate."""
    headers = MutableHeaders(scope=message)
    headers["X-Request-ID"] = request_id
    for name, value in {**more, **HEADERS}.items():
        headers.setdefault(name, value)


def with_origins(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The app, which web pages of these origins may call; without any it stays as it is: no page may.

    No cookies are used, so none are allowed (`Access-Control-Allow-Credentials` is never sent).
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST", "PUT", "PATCH", "DELETE"),
        allow_headers=_ASKED,
        expose_headers=_SHOWN,
        max_age=_PREFLIGHT_S,
    )
