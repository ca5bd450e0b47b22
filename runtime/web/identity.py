"""Who is calling: an API key or a token from the request becomes a Principal. After it: routes.

Before it: the directory (keys), `../identity/callers.py` (tokens). The tenant comes from these and from nowhere else in
a request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Protocol

import structlog
from fastapi import Depends, FastAPI, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from runtime.access import ApiKey, Principal, Scope, digest
from runtime.identity.callers import Tokens
from runtime.identity.tokens import KeysUnavailable, TokenRefused
from runtime.web import limits
from runtime.web.audit import announce
from runtime.web.problems import Problem

_BEARER = HTTPBearer(auto_error=False, description="An API key (`tw_...`) or a token.")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key: `tw_...`")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="thalweg"'}
_REFUSED = {"WWW-Authenticate": 'Bearer realm="thalweg", error="invalid_token"'}
_LATER = {"Retry-After": "5"}
_LONGEST_KEY = 512
_log = structlog.get_logger(__name__)


class Keys(Protocol):
    """What is asked of the directory."""

    @property
    def ready(self) -> bool:
        """True once every key that was ever written is known."""
        ...

    def find_key(self, key_digest: str, now_ms: int) -> ApiKey | None:
        """The key with this digest if it is active and not expired."""
        ...


def install(app: FastAPI, keys: Keys, now_ms: Callable[[], int], tokens: Tokens | None = None) -> None:
    """Let `principal` and `require` of this app look keys up here, and tokens where there are any."""
    app.state.identity = (keys, now_ms, tokens)


async def principal(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)] = None,
    header: Annotated[str | None, Security(_HEADER)] = None,
) -> Principal:
    """FastAPI dependency: the caller, its request counted (`limits.py`).

    Raises Problem 401; 429 for one request too many; 503 while keys of ours or of an issuer are not yet known.
    """
    known: Principal | None = getattr(request.state, "caller", None)
    if known is not None:  # asked before (`identify`): a request is counted once
        return known
    caller, held = await _holder(request, bearer, header)
    request.state.subject, request.state.tenant = caller.subject, caller.tenant
    await limits.admit(request, caller, "key" if caller.via == "key" else "user", held)
    request.state.caller = caller
    return caller


async def _holder(
    request: Request, bearer: HTTPAuthorizationCredentials | None, header: str | None
) -> tuple[Principal, str]:
    """The caller, and the name of the key or user that requests are counted by. Raises Problem 401, 503."""
    given = bearer.credentials if bearer is not None else header
    if not given:
        raise Problem(
            "unauthenticated",
            "The request carries no key: send `Authorization: Bearer tw_...`, `X-API-Key: tw_...`, or a bearer token.",
            headers=_CHALLENGE,
        )
    keys, now_ms, tokens = request.app.state.identity
    caller: Principal | None = None
    if bearer is None or given.startswith("tw_") or given.count(".") != 2:
        key = keys.find_key(digest(given), now_ms()) if len(given) <= _LONGEST_KEY else None
        caller, held = (None, "") if key is None else (key.principal(), key.id)
    elif keys.ready:  # before all is read, a user that was blocked would pass for one that is not
        caller = await _of_token(given, tokens)
        held = "" if caller is None else caller.subject
    if caller is None and not keys.ready:
        raise Problem(
            "unavailable",
            "The keys have not been read from Kafka yet, so this one cannot be checked.",
            headers={"Retry-After": "2"},
        )
    if caller is None:
        raise Problem(
            "unauthenticated",
            "The key or token is not known, was revoked or has expired: make a key with `thalweg access keys`, or log "
            "in again.",
            headers=_REFUSED,
        )
    return caller, held


async def _of_token(given: str, tokens: Tokens | None) -> Principal | None:
    """Raises Problem 401 for a token that was good until its time was over, 503 if nobody knows."""
    if tokens is None:
        return None
    try:
        return await tokens.caller(given)
    except TokenRefused as error:
        _log.info("token_refused", reason=str(error))
        if error.expired:
            raise Problem("unauthenticated", "The token has expired: log in again.", headers=_REFUSED) from error
        return None
    except KeysUnavailable as error:
        raise Problem(
            "unavailable", "The issuer's keys cannot be read just now, so no token can be checked.", headers=_LATER
        ) from error


async def identify(request: Request) -> Principal:
    """As `principal`, without FastAPI's injection: for what must know the caller before a body is read."""
    return await principal(request, await _BEARER(request), await _HEADER(request))


def still(request: Request, scope: Scope) -> Callable[[], Awaitable[Principal]]:
    """Asks anew who is calling, for a route that has waited: a key may have been revoked meanwhile, a role withdrawn.

    It counts no request. Raises Problem 401, 403, 503 when called.
    """

    async def asked() -> Principal:
        caller, _ = await _holder(request, await _BEARER(request), await _HEADER(request))
        if not caller.may(scope):
            raise lacking(caller, scope)
        return caller

    return asked


Caller = Annotated[Principal, Depends(principal)]
"""A route's parameter for any caller with a valid key or token."""


def require(scope: Scope) -> Callable[[Request, Principal], Awaitable[Principal]]:
    """A dependency as `principal`, which also raises Problem 403 unless the key carries the scope.

    What changes rights or configuration is in the audit before the route begins; 503 if it cannot be.
    """

    async def allowed(request: Request, caller: Caller) -> Principal:
        if not caller.may(scope):
            raise lacking(caller, scope)
        await announce(request)
        return caller

    return allowed


def lacking(caller: Principal, scope: Scope) -> Problem:
    """The problem of a caller without this scope."""
    if scope == "admin" and caller.mfa_missing:
        return Problem("mfa-required", "An admin's token must tell of a second factor: log in with one.")
    return Problem("forbidden", f"The key or token lacks the scope `{scope}`.", extra={"scope": scope})


async def changing(request: Request, caller: Caller) -> Principal:
    """As `principal`, of a route that decides itself what the caller may change; announced as with `require`."""
    await announce(request)
    return caller
