"""What `/health` and `/ready` of the query API look at. Before it: the parts, running. After it: `runtime/web/health`.

Kafka is not required: what was read stays known while it is away, and searches are answered.
"""

from __future__ import annotations

from typing import Protocol

from query_api.ports import Index, IndexUnavailable, ModelMismatch, ModelUnavailable, NoIndex
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


def checks(index: Index, model: Model, directory: KeyReader, receipts: Reader) -> list[Check]:
    """The checks, required ones first."""

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
    except (ModelMismatch, ModelUnavailable) as error:
        raise NotHealthy(str(error)) from error
