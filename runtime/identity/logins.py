"""A name and a password become a token. Before it: `POST /v1/login`. After it: `callers.py` takes the token.

The token says who logged in, when, with which password and whether with a second factor: no rights. Whoever is told
that it did not work is told the same whatever was wrong, and after the same time.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import jwt
import structlog

from runtime.access_state import AccessState
from runtime.identity.callers import SessionLife
from runtime.identity.failures import Failures
from runtime.identity.passwords import Codes, Passwords
from runtime.identity.signing import ALGORITHM, SealBroken, Signing

_AT_ONCE = 2
"""Passwords that are checked side by side: each takes 64 MiB."""

_PATIENCE_S = 5.0
_log = structlog.get_logger(__name__)


class LoginRefused(Exception):
    """Name, password or code is wrong, or the user is blocked: which of them is not told."""


class TooManyTries(Exception):
    """Too many failures, or too many people at once; ask again after again_s seconds."""

    def __init__(self, again_s: float) -> None:
        super().__init__(f"try again in {again_s:.0f} s")
        self.again_s = again_s


@dataclass(frozen=True)
class Session:
    """A token, and the seconds it lives."""

    token: str
    life_s: int


@dataclass(frozen=True)
class TryLimits:
    """Failures in a window: of one user from one address, and of one user or from one address in all."""

    of_both: int
    in_all: int


class Logins:
    """One for a process. issuer is `iss` and `aud` of the tokens; now_s: Unix time."""

    def __init__(
        self,
        state: AccessState,
        signing: Signing,
        *,
        issuer: str,
        life: SessionLife,
        passwords: Passwords,
        failures: Failures,
        limits: TryLimits,
        codes: Codes,
        now_s: Callable[[], float],
    ) -> None:
        self._state = state
        self._signing = signing
        self._issuer = issuer
        self._life = life
        self._passwords = passwords
        self._failures = failures
        self._limits = limits
        self._codes = codes
        self._now_s = now_s
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def login(self, tenant: str, name: str, password: str, code: str | None, *, address: str) -> Session:
        """A token for the user. Raises LoginRefused, TooManyTries."""
        limits = [
            (f"user {tenant}/{name} from {address}", self._limits.of_both),
            (f"user {tenant}/{name}", self._limits.in_all),
            (f"from {address}", self._limits.in_all),
        ]
        wait_s = self._failures.begin(limits)
        if wait_s:
            raise TooManyTries(wait_s)
        found = self._state.password(tenant, name)
        right = await self._matches(None if found is None else found.hash, password)
        factor = self._state.second_factor(tenant, name)
        if factor is not None:
            right = self._code_holds(f"{tenant}/{name}", factor.sealed, code) and right
        user = self._state.user(tenant, name)
        if not right or found is None or user is None or self._state.blocked(tenant, name):
            raise LoginRefused
        self._failures.succeeded([limit[0] for limit in limits])
        return self._session(tenant, name, user.groups, found.set_ms, mfa=factor is not None)

    async def _matches(self, stored: str | None, password: str) -> bool:
        try:
            await asyncio.wait_for(self._slots.acquire(), _PATIENCE_S)
        except TimeoutError as error:
            raise TooManyTries(_PATIENCE_S) from error
        checking = asyncio.ensure_future(asyncio.to_thread(self._passwords.matches, stored, password))
        # The place is free once the thread is done, also where the caller hung up meanwhile.
        checking.add_done_callback(lambda _: self._slots.release())
        return await asyncio.shield(checking)

    def _code_holds(self, who: str, sealed: str, code: str | None) -> bool:
        try:
            secret = self._signing.unseal(sealed)
        except SealBroken as error:
            _log.error("second_factor_unreadable", user=who, reason=str(error))
            return False
        return code is not None and self._codes.take(who, secret, code)

    def _session(self, tenant: str, name: str, groups: tuple[str, ...], password_ms: int, *, mfa: bool) -> Session:
        now = int(self._now_s())
        life_s = self._life.of(self._state.person(tenant, name, groups))
        claims = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": name,
            "tenant": tenant,
            "iat": now,
            "exp": now + life_s,
            "jti": secrets.token_urlsafe(12),
            "pwd": password_ms,
            "amr": ["pwd", "otp", "mfa"] if mfa else ["pwd"],
        }
        token = jwt.encode(claims, self._signing.private_key, ALGORITHM, headers={"kid": self._signing.kid})
        return Session(token, life_s)
