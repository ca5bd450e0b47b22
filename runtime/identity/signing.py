"""The deployment's own secret: it signs the tokens of people who log in here, and seals their second factors.

Before this: a setting, or a file under THALWEG_HOME. After this: `sessions.py`, `passwords.py`. From one secret a key
for each purpose is derived (HKDF, RFC 5869), so that neither tells of the other. Ed25519: a signature by anybody who
only checks tokens is impossible, and no algorithm here takes a shared secret.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWK

from runtime.settings import Settings, SettingsError

LEAST_SECRET = 32
"""Characters: 32 random hexadecimal ones are 128 bits."""

ALGORITHM = "EdDSA"


class SealBroken(Exception):
    """What was sealed cannot be read with this deployment's secret."""


class Signing:
    """The keys made of the secret. See tokens.KeySet for `find`."""

    def __init__(self, secret: str) -> None:
        self.private_key = Ed25519PrivateKey.from_private_bytes(_derived(secret, b"thalweg session tokens"))
        self._fernet = Fernet(base64.urlsafe_b64encode(_derived(secret, b"thalweg second factors")))
        raw = self.private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.kid = hashlib.sha256(raw).hexdigest()[:16]
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        self._public = PyJWK({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.kid}, ALGORITHM)

    async def find(self, kid: str, algorithm: str) -> PyJWK | None:
        """See tokens.KeySet."""
        return self._public if (kid, algorithm) == (self.kid, ALGORITHM) else None

    def seal(self, text: str) -> str:
        """The text, readable with this secret only."""
        return self._fernet.encrypt(text.encode()).decode()

    def unseal(self, sealed: str) -> str:
        """Back from `seal`. Raises SealBroken."""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise SealBroken("sealed with another secret: set the second factor again") from error


def signing_of(settings: Settings) -> Signing | None:
    """The deployment's keys: from `login.secret`, else from a file under the home that is made once.

    None where there is neither a secret nor a home to keep one: then nobody logs in here. Raises SettingsError.
    """
    given = settings.login.secret
    if given is not None:
        secret = given.get_secret_value().strip()
        if len(secret) < LEAST_SECRET:
            raise SettingsError(
                f"login.secret: shorter than {LEAST_SECRET} characters; `openssl rand -hex 32` makes one"
            )
        return Signing(secret)
    file = settings.home / "keys" / "login-secret"
    try:
        return Signing(kept_secret(file))
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):  # a container that has nothing to write to
            return None
        raise SettingsError(f"{file}: {error.strerror}; set THALWEG_LOGIN__SECRET_FILE") from error


def kept_secret(file: Path) -> str:
    """The secret in the file; a random one is made there (mode 0600) if there is none. Raises OSError.

    Processes may start at once: a file appears whole, by one of them, and all read what that one wrote.
    """
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as handle:
                handle.write(secrets.token_hex(32) + "\n")
                handle.flush()
                os.fsync(handle.fileno())
            with contextlib.suppress(FileExistsError):  # another process was faster
                os.link(draft, file)
        finally:
            draft.unlink(missing_ok=True)
    return file.read_text(encoding="utf-8").strip()


def _derived(secret: str, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret.encode())
