"""Passwords and second factors of the people who log in here. Before it: `thalweg access users`. After it: `logins.py`.

argon2id with the library's defaults (RFC 9106, low memory: 64 MiB, about 60 ms), so two at once bound the memory.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor import InvalidToken
from cryptography.hazmat.primitives.twofactor.totp import TOTP

LEAST_PASSWORD = 12
LONGEST_PASSWORD = 1024
"""Characters. NIST SP 800-63B: long ones, and no rules about their letters."""

_STEP_S = 30


class Passwords:
    """Makes and checks hashes; both take tens of milliseconds, in the caller's thread."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._nobodys = self._hasher.hash(secrets.token_urlsafe(16))

    def hash(self, password: str) -> str:
        """What is stored. Raises ValueError that says what is wrong with the password."""
        if not LEAST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise ValueError(f"a password has {LEAST_PASSWORD} to {LONGEST_PASSWORD} characters")
        return self._hasher.hash(password)

    def matches(self, stored: str | None, password: str) -> bool:
        """True if it is the one. Where there is none (no such user), it takes as long as where there is one."""
        try:
            self._hasher.verify(stored or self._nobodys, password)
        except (VerificationError, InvalidHashError):
            return False
        return stored is not None


def new_second_factor() -> str:
    """A fresh secret for an authenticator app (base32, 160 bits)."""
    return base64.b32encode(secrets.token_bytes(20)).decode()


def second_factor_uri(secret: str, *, user: str, issuer: str) -> str:
    """What the app reads, usually as a QR code."""
    return _totp(secret).get_provisioning_uri(user, issuer)


class Codes:
    """Checks codes of authenticator apps (RFC 6238): of this half minute and the one before; each counts once.

    Once in each process: of several replicas each would take it once.
    """

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._last: dict[str, int] = {}

    def take(self, who: str, secret: str, code: str) -> bool:
        """True if the code is right and was not taken before. who: whose it is."""
        now = int(self._now_s()) // _STEP_S
        for step in (now, now - 1):
            try:
                _totp(secret).verify(code.encode(), step * _STEP_S)
            except (InvalidToken, ValueError):
                continue
            if step <= self._last.get(who, -1):
                return False
            self._last[who] = step
            return True
        return False


def _totp(secret: str) -> TOTP:
    return TOTP(base64.b32decode(secret), 6, SHA1(), _STEP_S)  # noqa: S303  # the one that all apps know; as a MAC it is sound
