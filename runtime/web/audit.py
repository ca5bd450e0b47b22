"""Every request to `/v1` as an entry of the audit. Before it: `requests.py`, outermost. After it: `runtime/audit.py`.

What changes rights or configuration is announced before it is done, and not done if that cannot be written
(`announce`, called once the caller is known). All else is said afterwards, and never waited for. Refusals of one
caller are summed up minute by minute: whoever floods an API must not flood a topic that is kept for years.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.audit import AuditUnavailable, Kind, Outcome
from runtime.web.problems import Problem
from schemas.records import AuditEntry

_RIGHTS = ("/v1/api-keys", "/v1/users", "/v1/knowledge-bases")
_CONFIGURATION = ("/v1/admin",)
_LOGIN = ("/v1/login", "/v1/logout")
_READS = ("GET", "HEAD", "OPTIONS")
_BY_STATUS = {401: Kind.AUTHENTICATION, 403: Kind.AUTHORIZATION, 413: Kind.SECURITY, 429: Kind.SECURITY}
_LONGEST = 500
_LONGEST_NOTE = 2000
_MINUTE_MS = 60_000
_MOST_CALLERS = 1000

_notes: ContextVar[dict[str, list[str]] | None] = ContextVar("audit_notes", default=None)


class Log(Protocol):
    """As runtime.audit.AuditLog."""

    def tell(self, entry: AuditEntry) -> None:
        """Have an entry written, without waiting."""
        ...

    async def confirm_async(self, entry: AuditEntry) -> None:
        """Write an entry; it is durable then. Raises AuditUnavailable."""
        ...


def note(**details: str | int | Sequence[str]) -> None:
    """Add to this request's entry: names, numbers, hashes; never a text. Outside a request it does nothing.

    Of a list, or of one name noted several times, as much is kept as fits, one a line; `<name>_in_all` counts the rest
    in.
    """
    noted = _notes.get()
    if noted is None:
        return
    for name, value in details.items():
        noted.setdefault(name, []).extend([str(value)] if isinstance(value, str | int) else value)


def _told(noted: Mapping[str, Sequence[str]]) -> dict[str, str]:
    told = {}
    for name, values in noted.items():
        kept, size = 0, 0
        for value in values:
            size += len(value) + 1
            if size > _LONGEST_NOTE:
                break
            kept += 1
        told[name] = "\n".join(values[:kept])
        if kept < len(values):
            told[f"{name}_in_all"] = str(len(values))
    return told


def kind_of(method: str, route: str) -> Kind:
    """What a request to this route is about."""
    if route in _LOGIN:
        return Kind.AUTHENTICATION
    if method not in _READS and _under(route, _RIGHTS):
        return Kind.AUTHORIZATION
    if method not in _READS and _under(route, _CONFIGURATION):
        return Kind.CONFIGURATION
    return Kind.DATA_ACCESS


def announced(method: str, route: str) -> bool:
    """Whether this request must be in the audit before it is done."""
    return kind_of(method, route) in (Kind.AUTHORIZATION, Kind.CONFIGURATION)


def install(app: FastAPI, log: Log, now_ms: Callable[[], int]) -> None:
    """Let `announce` of this app write here."""
    app.state.audit = (log, now_ms)


async def announce(request: Request) -> None:
    """Say of what changes rights or configuration that it is about to be done; of all else, nothing.

    The caller's subject and tenant are in `request.state`. Raises Problem 503 if it cannot be written: then nothing
    was done.
    """
    if not hasattr(request.app.state, "audit"):
        return
    log, now_ms = request.app.state.audit
    scope = request.scope
    if not announced(scope["method"], _route(scope)):
        return
    try:
        await log.confirm_async(_entry(scope, now_ms(), Outcome.BEGUN, {}))
    except AuditUnavailable as error:
        raise Problem(
            "unavailable",
            "The audit cannot be written, so nothing was changed: try again.",
            headers={"Retry-After": "5"},
        ) from error


class AuditMiddleware:
    """Wraps a whole app, outside RequestMiddleware, which gives the request its id."""

    def __init__(self, app: ASGIApp, *, log: Log, now_ms: Callable[[], int]) -> None:
        self._app = app
        self._log = log
        self._now_ms = now_ms
        self._refusals = Refusals()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        noted: dict[str, list[str]] = {}
        token = _notes.set(noted)
        try:
            await self._app(scope, receive, answer)
        finally:
            _notes.reset(token)
            self._said(scope, status or 499, _told(noted))  # 499: the caller hung up before an answer began

    def _said(self, scope: Scope, status: int, notes: dict[str, str]) -> None:
        now = self._now_ms()
        outcome = Outcome.DONE if status < 400 else Outcome.REFUSED if status < 499 else Outcome.FAILED
        entry = _entry(scope, now, outcome, {"status": str(status), **notes}, _BY_STATUS.get(status))
        for item in [entry] if outcome is not Outcome.REFUSED else self._refusals.take(entry):
            self._log.tell(item)


@dataclass
class _Repeated:
    last: AuditEntry
    since_ms: int
    times: int = 0


class Refusals:
    """The first refusal of a caller, an action and a status is an entry at once; more within a minute are one, later.

    Of one event loop. Bounded: beyond a thousand callers in a minute the others are summed up as one.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], _Repeated] = {}
        self._looked_ms = 0

    def take(self, entry: AuditEntry) -> list[AuditEntry]:
        """What is to be written now that this was refused: it, and sums that are due."""
        due = self._due(entry.at_ms)
        of: tuple[str, ...] = (entry.tenant, entry.actor, entry.action, entry.detail.get("status", ""))
        if of not in self._known and len(self._known) >= _MOST_CALLERS:
            of = ("",)
        before = self._known.get(of)
        if before is None:
            self._known[of] = _Repeated(entry, entry.at_ms)
            return [*due, entry]
        before.last, before.times = entry, before.times + 1
        return due

    def _due(self, now_ms: int) -> list[AuditEntry]:
        if now_ms - self._looked_ms < _MINUTE_MS:
            return []
        self._looked_ms = now_ms
        old = {of: found for of, found in self._known.items() if now_ms - found.since_ms >= _MINUTE_MS}
        for of in old:
            del self._known[of]
        return [_sum(found) for found in old.values() if found.times]


def _sum(found: _Repeated) -> AuditEntry:
    last = found.last
    detail = {**last.detail, "times": str(found.times), "since_ms": str(found.since_ms)}
    return AuditEntry(
        last.at_ms,
        last.actor,
        last.action,
        last.resource,
        last.outcome,
        last.tenant,
        last.request_id,
        detail,
        last.kind,
    )


def _entry(scope: Scope, at_ms: int, outcome: Outcome, detail: dict[str, str], kind: Kind | None = None) -> AuditEntry:
    state, route = scope.get("state", {}), _route(scope)
    client = scope.get("client")
    return AuditEntry(
        at_ms=at_ms,
        actor=state.get("subject") or "",
        action=f"{scope['method'] if route else 'unknown'} {route or '/v1'}"[:_LONGEST],
        resource=scope["path"][:_LONGEST],
        outcome=outcome,
        tenant=state.get("tenant") or "",
        request_id=state.get("request_id"),
        detail={**detail, **({"client": client[0]} if client else {})},
        kind=kind or kind_of(scope["method"], route),
    )


def _route(scope: Scope) -> str:
    """The route's path with its placeholders; empty where none matched."""
    found: str = getattr(scope.get("route"), "path", "")
    return found


def _under(route: str, roots: Sequence[str]) -> bool:
    return any(route == root or route.startswith(f"{root}/") for root in roots)
