"""Puts a ciphertext in place of a metadata value, and gives the value back to whoever has the key.

AES-256-SIV (RFC 5297), not GCM: a replay or a redelivery of a change must give the same record again, so the
construction is deterministic, and no nonce can be used twice. The price: who reads the log sees that a document's value
is what it was in an earlier version. Nothing else: each value is bound to its document and its metadata key, so equal
values of two documents differ, and a ciphertext that was copied elsewhere opens nothing. Before this: the setting
`privacy.seal_keys`, and `policy.py`, which names the keys. After this: the stages that write `documents`, which seal,
and the query API, which opens what a caller may read.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import cast

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.records import MetadataValue, split_document_key

PREFIX = "sealed:"
"""`sealed:<key's id>:<base64url>`: how a sealed value begins."""

_CONTEXT = b"thalweg sealed value 1"
_KEY_BYTES = 64  # AES-256-SIV takes two keys of AES-256
_ID_BYTES = 4
_STEP = 32
"""Bytes that a value's length is rounded up to before it is sealed: short ones all look alike."""

_log = structlog.get_logger(__name__)


class Seals:
    """One for a process. Without a secret it opens nothing, and cannot seal."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        """secrets: random ones, each of them long enough; the first seals, all open."""
        self._secrets = {_derived(secret, b"id", _ID_BYTES).hex(): secret for secret in secrets}
        self._current = next(iter(self._secrets), None)
        self._cipher = lru_cache(maxsize=1000)(self._cipher_of)
        self._told: set[str] = set()

    @property
    def can_seal(self) -> bool:
        """True if there is a key."""
        return self._current is not None

    def sealed(self, document: str, name: str, value: MetadataValue) -> str:
        """What stands for the value under this metadata key of this document (its key, `tenant/base/id`).

        The same arguments and secret, the same result. Raises ValueError without a key.
        """
        if self._current is None:
            raise ValueError("there is no key to seal with")
        plain = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
        padded = plain.ljust(-(-len(plain) // _STEP) * _STEP)  # JSON allows blanks behind a value
        cipher = self._cipher(self._current, split_document_key(document)[0])
        return f"{PREFIX}{self._current}:{_text(cipher.encrypt(padded, _bound_to(document, name)))}"

    def opened(self, document: str, metadata: Mapping[str, MetadataValue]) -> dict[str, MetadataValue]:
        """A document's metadata with its sealed values in clear; what does not open stays as it is."""
        return {name: self._opened(document, name, value) for name, value in metadata.items()}

    def _opened(self, document: str, name: str, value: MetadataValue) -> MetadataValue:
        if not self._secrets or not isinstance(value, str) or not value.startswith(PREFIX):
            return value
        key, _, text = value.removeprefix(PREFIX).partition(":")
        plain = self._decrypted(document, name, key, text) if key in self._secrets else None
        if plain is None:
            self._tell(key)
            return value
        return cast(MetadataValue, json.loads(plain.decode("utf-8", "surrogatepass")))

    def _decrypted(self, document: str, name: str, key: str, text: str) -> bytes | None:
        """None for what was not sealed here with this key."""
        try:
            return self._cipher(key, split_document_key(document)[0]).decrypt(_bytes(text), _bound_to(document, name))
        except (InvalidTag, ValueError):
            return None

    def _tell(self, key: str) -> None:
        """Log, once for each key of ours and once for all others, that a value stayed sealed."""
        known = key if key in self._secrets else "another"
        if known not in self._told:
            self._told.add(known)
            _log.warning("sealed_value_not_opened", sealed_with=known, fix="privacy.seal_keys must hold its key, too")

    def _cipher_of(self, key: str, tenant: str) -> AESSIV:
        return AESSIV(_derived(self._secrets[key], b"tenant\0" + tenant.encode("utf-8", "surrogatepass"), _KEY_BYTES))


def _derived(secret: str, purpose: bytes, length: int) -> bytes:
    """HKDF (RFC 5869) of a secret that is random already, hence without salt."""
    return HKDF(SHA512(), length, salt=None, info=b"thalweg seal\0" + purpose).derive(secret.encode())


def _bound_to(document: str, name: str) -> list[bytes]:
    """SIV takes a list: no two lists are the same bytes."""
    return [_CONTEXT, *(part.encode("utf-8", "surrogatepass") for part in (*split_document_key(document), name))]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    """Back from `_text`, and from nothing else: the decoder alone would pass over bits and signs that mean nothing."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _text(data) != text:
        raise ValueError("no base64 of ours")
    return data
