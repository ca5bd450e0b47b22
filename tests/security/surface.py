"""Both APIs as tests attack them: what they serve, and a client for each. `python -m tests.security.surface` prints it.

The routes come from the apps themselves, so that a route that is added is attacked without a word here.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from tests.support.fake_audit import FakeAudit
from tests.unit.connectors.upload_api.world import upload_world
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex
from tests.unit.query_api.fakes import app_around

SNAPSHOT = Path(__file__).with_name("routes.txt")
OPEN = frozenset({"/health", "/ready", "/metrics", "/docs", "/openapi.json", "/problems/{kind}", "/v1/login"})
"""What anyone may ask. `/v1/login` is where a name and a password become a token."""


@dataclass
class Api:
    """One of the two, with the key `tw_admin` unless a test sends another."""

    name: str
    app: FastAPI
    client: httpx.AsyncClient
    audit: FakeAudit

    def routes(self) -> list[tuple[str, str]]:
        """(method, path with placeholders) of all that it serves."""
        return sorted(_routes(self.app.routes))

    def guarded(self) -> list[tuple[str, str]]:
        """Those that need credentials; placeholders are filled in."""
        return [(method, filled(path)) for method, path in self.routes() if path not in OPEN]


@asynccontextmanager
async def both_apis() -> AsyncIterator[list[Api]]:
    """The apps, with their ports in memory."""
    query = app_around(FakeIndex(), FakeEmbedder())
    with tempfile.TemporaryDirectory() as folder:
        async with upload_world(Path(folder)) as world:
            yield [
                Api("query", query.app, query.client, query.audit),
                Api("upload", world.app, world.client, world.audit),
            ]
    await query.client.aclose()


def filled(path: str) -> str:
    """A path that the template matches."""
    parts = ["x" if part.startswith("{") else part for part in path.split("/")]
    return "/".join(parts)


def _routes(routes: Any) -> Iterator[tuple[str, str]]:
    for route in routes:
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if hasattr(route, "methods"):
            for method in sorted(set(route.methods or ()) - {"HEAD"}):
                yield method, route.path
        elif inner is not None and hasattr(inner, "routes"):
            yield from _routes(inner.routes)


async def described() -> str:
    """A line for each route of both."""
    async with both_apis() as apis:
        return "".join(
            f"{api.name:6} {'open  ' if path in OPEN else 'guarded'} {method:6} {path}\n"
            for api in apis
            for method, path in api.routes()
        )


if __name__ == "__main__":
    print(asyncio.run(described()), end="")  # its output
