"""What `/health` and `/ready` of the query API look at. Before it: the parts, running. After it: `runtime/web/health`.

Kafka is not required: what was read stays known while it is away, and searches are answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from query_api.retrieval.ports import Index, IndexUnavailable, ModelMismatch, ModelUnavailable, NoIndex
from runtime.breaker import Breaker
from runtime.web.health import Check, NotHealthy
from schemas.index.contract import Generation


class Model(Protocol):
    """What is asked of the query embedder."""

    async def ready(self, generation: Generation) -> str:
        """The key of the generation's model, once it is loaded. Raises ModelMismatch, ModelUnavailable."""
        ...


class Reader(Protocol):
    """What is asked of a part that follows a topic."""

    @property
    def connected(self) -> bool:
        """True while Kafka is reachable."""
        ...


class KeyReader(Reader, Protocol):
    """What is asked of the directory."""

    @property
    def ready(self) -> bool:
        """True once all entries are known."""
        ...


def checks(
    index: Index, model: Model, directory: KeyReader, receipts: Reader, breakers: Sequence[Breaker] = ()
) -> list[Check]:
    """The checks, required ones first, and the state of each breaker."""

    async def store() -> str:
        return await _answering(index)

    async def embedder() -> str:
        return await _fitting(index, model)

    async def keys() -> str:
        if not directory.ready:
            raise NotHealthy("the topic `access` was not read yet; is Kafka up, and were the topics made?")
        return "read"

    async def kafka() -> str:
        if not directory.connected:
            raise NotHealthy("no broker is reachable; keys and knowledge bases stay as they were read")
        return "reachable"

    async def written() -> str:
        if not receipts.connected:
            raise NotHealthy("the topic `receipts` is not being read; `min_position` cannot be answered")
        return "read"

    return [
        Check("index", store),
        Check("embedder", embedder),
        Check("directory", keys),
        Check("kafka", kafka, required=False),
        Check("receipts", written, required=False),
        *map(_circuit, breakers),
    ]


async def _answering(index: Index) -> str:
    try:
        return f"generation {(await index.live()).generation.name}"
    except IndexUnavailable as error:
        raise NotHealthy(str(error)) from error
    except NoIndex as error:
        raise NotHealthy(f"{error}; start the index stage, it makes the collections") from error


async def _fitting(index: Index, model: Model) -> str:
    try:
        live = await index.live()
    except (IndexUnavailable, NoIndex):
        return "not known while the index cannot be asked"  # what is wrong with that, its own check says
    try:
        return await model.ready(live.generation)
    except ModelMismatch as error:
        raise NotHealthy(str(error)) from error
    except ModelUnavailable as error:
        # Meanwhile keywords find: a replica that says so is better than none.
        raise NotHealthy(f"{error}; searches go by keywords alone", degraded=True) from error


def _circuit(breaker: Breaker) -> Check:
    async def closed() -> str:
        if breaker.state == "closed":
            return "closed"
        raise NotHealthy(
            f"{breaker.state}: {breaker.part} failed repeatedly; asked again in {breaker.retry_after_s:.0f} s"
        )

    return Check(f"circuit_{breaker.part}", closed, required=False)
