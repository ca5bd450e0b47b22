"""An identity provider for tests: keys of its own, and tokens signed with them, right or wrong as told."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://issuer.example", "thalweg-api"

RSA = rsa.generate_private_key(65537, 2048)
SHORT_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505  # it is to be refused
ELLIPTIC = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    """The public half as a JSON Web Key."""
    kinds = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    kind = next((found for of, found in kinds.items() if isinstance(key, of)), OKPAlgorithm)
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


def key_set(*keys: Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def pem(key: Any) -> bytes:
    """The public half as text, which some libraries took for a shared secret."""
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def claims(**more: Any) -> dict[str, Any]:
    """A good token's; a value of None leaves the claim out."""
    now = int(time.time())
    found = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 300, "tenant": "acme", **more,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def token(*, key: Any = RSA, algorithm: str = "RS256", kid: str | None = "one", header: Any = None, **more: Any) -> str:
    headers = {**({} if kid is None else {"kid": kid}), **(header or {})}
    return jwt.encode(claims(**more), key, algorithm, headers=headers)


def raw_token(header: str, payload: str, key: Any = RSA) -> str:
    """A token of these very texts, signed by RS256."""
    signing = f"{_encoded(header.encode())}.{_encoded(payload.encode())}"
    signature = RSAAlgorithm(RSAAlgorithm.SHA256).sign(signing.encode(), key)
    return f"{signing}.{_encoded(signature)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
