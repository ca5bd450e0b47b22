"""How the contract suite gets each embedder: the local one, and both remote ones before the stand-in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from runtime.embedding.contract import Embedder
from runtime.embedding.select import embedder_from
from tests.stand_ins.model_server import ModelServer

DIMENSION = 48


@dataclass(frozen=True)
class Options:
    """The settings group `embedding`, as plain values."""

    provider: Literal["local", "cohere", "openai"] = "local"
    url: str | None = None
    model: str | None = None
    api_key: SecretStr | None = None
    dimension: int | None = None
    batch_size: int = 96
    threads: int = 1
    timeout_s: float = 5.0
    path: Path | None = None


def cohere_options(server: ModelServer) -> Options:
    return Options("cohere", server.url, "stand-in-model", SecretStr("secret-key"), DIMENSION, batch_size=8)


def openai_options(server: ModelServer) -> Options:
    return Options("openai", server.openai_url, "stand-in-model", SecretStr("secret-key"), DIMENSION, batch_size=8)


REMOTE: dict[str, Callable[[ModelServer], Options]] = {"cohere": cohere_options, "openai": openai_options}


@contextmanager
def remote_embedder(provider: str, **changes: object) -> Iterator[tuple[Embedder, ModelServer]]:
    """A remote embedder and its server; `changes` are settings to be other than usual."""
    with ModelServer(DIMENSION) as server:
        options = replace(REMOTE[provider](server), **changes)  # type: ignore[arg-type]
        yield embedder_from(options), server
