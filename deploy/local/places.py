"""Where one local stack keeps its things: everything below its home, and who may read it.

Before: `runtime.settings.default_home`. After: every module that reads or writes a file of the stack.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from runtime.settings import default_home, stack_state_file

__all__ = ["Home", "default_home"]


@dataclass(frozen=True)
class Home:
    """The folders and files of one stack. Nothing exists before `make`."""

    root: Path

    @property
    def data(self) -> Path:
        """One folder a server; what must survive a restart."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """One file a process, `NAME.log`, with older ones beside it."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What is true only while the stack runs, and the remembered ports."""
        return self.root / "run"

    @property
    def secrets(self) -> Path:
        """One file a secret, mode 0600, in a folder with mode 0700."""
        return self.root / "secrets"

    @property
    def config(self) -> Path:
        """Configuration files of the servers, written anew at each start."""
        return self.run / "config"

    @property
    def state_file(self) -> Path:
        """What `thalweg status` and `runtime.settings` read."""
        return stack_state_file(self.root)

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor as long as it lives; holds its process id."""
        return self.run / "supervisor.lock"

    @property
    def weaviate_key_file(self) -> Path:
        """The API key of Weaviate's administrator."""
        return self.secrets / "weaviate-admin-key"

    @property
    def postgres_password_file(self) -> Path:
        """The password of PostgreSQL's superuser `thalweg`."""
        return self.secrets / "postgres-password"

    @property
    def demo_key_file(self) -> Path:
        """The API key of the local administrator, made at first start."""
        return self.secrets / "demo-api-key"

    @property
    def mask_key_file(self) -> Path:
        """The secret of the tokens that stand for personal data. Lost, equal values get other tokens from then on."""
        return self.secrets / "mask-key"

    @property
    def seal_keys_file(self) -> Path:
        """The secrets that sealed metadata is opened with, the one that seals first. Lost, it is lost."""
        return self.secrets / "seal-keys"

    @property
    def connector_secrets(self) -> Path:
        """Files that connectors may refer to as `${file:PATH:KEY}` or `${directory:FOLDER:FILE}`."""
        return self.secrets / "connectors"

    def log(self, name: str) -> Path:
        """The log file of one process."""
        return self.logs / f"{name}.log"

    def make(self) -> None:
        """Make the folders and the secrets that are not there yet.

        Started by root, the folders on the way to the database's data can be passed through by the account that
        runs it; otherwise they are the user's alone.
        """
        passable = 0o711 if os.geteuid() == 0 else 0o700
        for folder, mode in (
            (self.root, passable), (self.data, passable), (self.logs, 0o700), (self.run, 0o700),
            (self.config, 0o700), (self.secrets, 0o700), (self.connector_secrets, 0o700),
        ):  # fmt: skip
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)
        keep_secret(self.weaviate_key_file, secrets.token_urlsafe(32))
        keep_secret(self.postgres_password_file, secrets.token_urlsafe(32))
        keep_secret(self.demo_key_file, f"tw_{secrets.token_urlsafe(32)}")
        keep_secret(self.mask_key_file, secrets.token_urlsafe(32))
        keep_secret(self.seal_keys_file, secrets.token_urlsafe(32))


def keep_secret(file: Path, value: str) -> str:
    """Write `value` to `file` with mode 0600 unless it holds one already; returns the one that counts."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text().strip()
    with os.fdopen(descriptor, "w") as handle:
        handle.write(value + "\n")
    return value


def replace_file(file: Path, text: str, mode: int = 0o600) -> None:
    """Write a file so that a reader sees the old text or the new one, never half of it."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    draft.replace(file)
