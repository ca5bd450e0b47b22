"""A second whole product whose model is the stand-in: it counts every text, answers at once, and misbehaves on command.

Before this: `deploy.local.stack`, `tests/stand_ins`. After this: the table of calls and the fault matrix. Sessions are
short here (`SESSION_S`), so that a worker that falls silent is replaced while a test looks on.

`THALWEG_TEST_COUNTED_HOME` names a folder whose stack is started if need be and left running: for work on the tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local import stack as local_stack
from deploy.local.stack import Stack
from tests.stand_ins.model_server import ModelServer

SESSION_S = 8
DIMENSION = 64
MAX_UPLOAD_BYTES = 8_000_000
MAX_TEXT_BYTES = 200_000
_PORT_FILE = "model-port"


@dataclass(frozen=True)
class CountedStack:
    """A running stack, the model server that it embeds with, and the settings its processes were given."""

    stack: Stack
    models: ModelServer
    environment: Mapping[str, str]


def settings_for(models: ModelServer, given: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without settings of other stacks, and with those of this one."""
    kept = {name: value for name, value in given.items() if not name.startswith("THALWEG_") or "CACHE" in name}
    return kept | {
        "THALWEG_EMBEDDING__PROVIDER": "openai",
        "THALWEG_EMBEDDING__URL": models.openai_url,
        "THALWEG_EMBEDDING__MODEL": "stand-in",
        "THALWEG_EMBEDDING__DIMENSION": str(DIMENSION),
        # A hanging model, store or parser shows within the test's patience.
        "THALWEG_EMBEDDING__TIMEOUT_S": "3",
        "THALWEG_WEAVIATE__TIMEOUT_S": "10",
        "THALWEG_PARSE__TIMEOUT_S": "10",
        "THALWEG_STAGE__SESSION_TIMEOUT_S": str(SESSION_S),
        "THALWEG_STAGE__RETRY_MAX_S": "2",
        # Small, so that tests can stand at the limits.
        "THALWEG_UPLOAD__MAX_BYTES": str(MAX_UPLOAD_BYTES),
        "THALWEG_PARSE__MAX_TEXT_BYTES": str(MAX_TEXT_BYTES),
    }


@contextmanager
def counted_stack(folder: Path) -> Iterator[CountedStack]:
    """The stack in `folder`/home, stopped and deleted at the end. Raises LocalStackError if it does not start."""
    if lasting := os.environ.get("THALWEG_TEST_COUNTED_HOME"):
        with ModelServer(DIMENSION, _port(Path(lasting))) as models:
            environment = settings_for(models, os.environ)
            yield CountedStack(_start(Path(lasting), environment, tied=False), models, environment)
        return
    with ModelServer(DIMENSION) as models:
        environment = settings_for(models, os.environ)
        started = _start(folder / "home", environment, tied=True)
        try:
            yield CountedStack(started, models, environment)
        finally:
            started.stop()
            started.delete_data()


def _start(home: Path, environment: Mapping[str, str], *, tied: bool) -> Stack:
    return local_stack.start(home, apps=True, usual_ports=False, tied=tied, environ=environment)


def _port(home: Path) -> int:
    """The model server's port in a lasting home: the same in every run, for its processes know it."""
    file = home / _PORT_FILE
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        with ModelServer() as free:
            file.write_text(free.url.rpartition(":")[2])
    return int(file.read_text())
