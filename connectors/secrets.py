"""A database's password as the Connect worker finds it: a reference, so that its REST API never shows the password.

Before this: a DSN. After this: `debezium.py`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LocalSecrets:
    """The folder from which the local stack's Connect worker resolves `${directory:FOLDER:FILE}`."""

    folder: Path

    def put(self, source: str, password: str) -> str:
        """Keep a source's password, readable by this user alone; returns the reference to it."""
        draft = self.folder / f".{source}.draft"
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(password)
        draft.replace(self._file(source))
        return self.reference(source)

    def reference(self, source: str) -> str:
        """How a connector's configuration names the password."""
        return f"${{directory:{self.folder}:{self._file(source).name}}}"

    def drop(self, source: str) -> None:
        """Forget a source's password."""
        self._file(source).unlink(missing_ok=True)

    def _file(self, source: str) -> Path:
        return self.folder / f"source-{source}-password"


def local_secrets(home: Path, origins: dict[str, str]) -> LocalSecrets | None:
    """The local stack's folder of secrets if Connect is the local stack's own, else None."""
    folder = home / "secrets" / "connectors"
    ours = origins.get("connect.url", "").startswith("local stack")
    return LocalSecrets(folder) if ours and folder.is_dir() else None
