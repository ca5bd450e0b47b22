"""Who is calling: an API key from the request becomes a Principal. Before it: the directory; after it: routes.

The tenant comes from the key and from nowhere else in a request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Protocol

from fastapi import Depends, FastAPI, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from runtime.access import ApiKey, Principal, Scope, digest
from runtime.web import limits
from runtime.web.audit import announce
from runtime.web.problems import Problem

_BEARER = HTTPBearer(auto_error=False, description="An API key: `tw_...`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, description="An API key: `tw_...`")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="thalweg"'}
_REFUSED = {"WWW-Authenticate": 'Bearer realm="thalweg", error="invalid_token"'}
_LONGEST_KEY = 512


class Keys(Protocol):
    """What is asked of the directory."""

    @property
    def ready(self) -> bool:
        """True once every key that was ever written is known."""
        ...

    def find_key(self, key_digest: str, now_ms: int) -> ApiKey | None:
        """The key with this digest if it is active and not expired."""
        ...


def install(app: FastAPI, keys: Keys, now_ms: Callable[[], int]) -> None:
    """Let `principal` and `require` of this app look keys up here."""
    app.state.identity = (keys, now_ms)


async def principal(
    request: Request,
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)] = None,
    header: Annotated[str | None, Security(_HEADER)] = None,
) -> Principal:
    """FastAPI dependency: the caller, its request counted (`limits.py`).

    Raises Problem 401; 429 for one request too many; 503 while the keys are not yet known.
    """
    given = bearer.credentials if bearer is not None else header
    if not given:
        raise Problem(
            "unauthenticated",
            "The request carries no key: send `Authorization: Bearer tw_...` or `X-API-Key: tw_...`.",
            headers=_CHALLENGE,
        )
    keys, now_ms = request.app.state.identity
    found = keys.find_key(digest(given), now_ms()) if len(given) <= _LONGEST_KEY else None
    if found is None and not keys.ready:
        raise Problem(
            "unavailable",
            "The keys have not been read from Kafka yet, so this one cannot be checked.",
            headers={"Retry-After": "2"},
        )
    if found is None:
        raise Problem(
            "unauthenticated",
            "The key is not known, was revoked or has expired: make a new one with `thalweg access keys`.",
            headers=_REFUSED,
        )
    caller: Principal = found.principal()
    request.state.subject, request.state.tenant = caller.subject, caller.tenant
    await limits.admit(request, caller, "key", found.id)
    return caller


Caller = Annotated[Principal, Depends(principal)]
"""A route's parameter for any caller with a valid key."""


def require(scope: Scope) -> Callable[[Request, Principal], Awaitable[Principal]]:
    """A dependency as `principal`, which also raises Problem 403 unless the key carries the scope.

    What changes rights or configuration is in the audit before the route begins; 503 if it cannot be.
    """

    async def allowed(request: Request, caller: Caller) -> Principal:
        if not caller.may(scope):
            raise Problem("forbidden", f"The key lacks the scope `{scope}`.", extra={"scope": scope})
        await announce(request)
        return caller

    return allowed
