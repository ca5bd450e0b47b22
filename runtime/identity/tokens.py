"""Is this JSON Web Token genuine, and meant for us? Before it: a bearer token. After it: `callers.py` reads the claims.

After RFC 8725 (JWT best practice): the algorithms are fixed and asymmetric, so that no public key can pass for a shared
secret and `none` is no algorithm; the key comes from our own set by its `kid` and never from the token (`jku`, `x5u`,
`jwk` and `x5c` are not looked at); issuer, audience and expiry must be there and hold; a name twice is refused, for two
readers might take different ones.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
from jwt import PyJWK

LONGEST = 8192
"""Characters of a token: one with 100 groups has about 4,000."""

ASYMMETRIC = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
"""Signatures whose checking key is public."""

_MOST_PARTS = 200


class TokenRefused(Exception):
    """The token is not valid here; reason is for our log. expired: its signature holds, its time is over."""

    def __init__(self, reason: str, *, expired: bool = False) -> None:
        super().__init__(reason)
        self.expired = expired


class KeysUnavailable(Exception):
    """The issuer's keys cannot be had just now, so nobody knows whether the token is valid."""


class KeySet(Protocol):
    """The public keys of an issuer."""

    async def find(self, kid: str, algorithm: str) -> PyJWK | None:
        """The key of this id for this algorithm, None if the issuer has none. Raises KeysUnavailable."""
        ...


@dataclass(frozen=True)
class Issuer:
    """Whose tokens count, and how they are checked. leeway_s: how far clocks may be apart."""

    name: str
    audience: str
    algorithms: frozenset[str]
    keys: KeySet
    leeway_s: float = 60.0


def unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims as the token states them, believed by nobody yet. Raises TokenRefused."""
    if len(token) > LONGEST:
        raise TokenRefused("too long")
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenRefused("not of three parts")
    header, claims = _part(parts[0]), _part(parts[1])
    if "crit" in header:
        raise TokenRefused("it asks for extensions that are not known here")
    return header, claims


async def verified(token: str, issuer: Issuer) -> dict[str, Any]:
    """The claims of a genuine token of this issuer. Raises TokenRefused, KeysUnavailable."""
    header, _ = unverified(token)
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in issuer.algorithms & ASYMMETRIC:
        raise TokenRefused("an algorithm that is not accepted")
    if not isinstance(kid, str) or not 0 < len(kid) <= 200:
        raise TokenRefused("no key is named")
    key = await issuer.keys.find(kid, algorithm)
    if key is None:
        raise TokenRefused("an unknown key")
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=issuer.audience,
            issuer=issuer.name,
            leeway=issuer.leeway_s,
            options={"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
        )
    except jwt.ExpiredSignatureError as error:
        raise TokenRefused("expired", expired=True) from error
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
        raise TokenRefused(type(error).__name__) from error
    return claims


def _part(encoded: str) -> dict[str, Any]:
    """A part of a token as the object it holds. Raises TokenRefused."""
    try:
        raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        found = json.loads(raw, object_pairs_hook=_once)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise TokenRefused("no JSON object, or a name is there twice") from error
    if not isinstance(found, dict) or len(found) > _MOST_PARTS:
        raise TokenRefused("no JSON object, or too large a one")
    return found


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found
