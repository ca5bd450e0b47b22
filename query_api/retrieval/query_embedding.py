"""Questions to vectors, off the event loop: the port `QueryEmbedder`, one `runtime.embedding` model a generation.

Before it: `search.py`. After it: `runtime/embedding/select.py`; a model is loaded in a thread when a generation that
it made is first read, so that the alias may move to another model without a restart.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from query_api.retrieval.ports import EMBEDDING, ModelLater, ModelMismatch, ModelUnavailable
from runtime.breaker import Breaker, CircuitOpen
from runtime.embedding.contract import Embedder, EmbeddingError, EmbeddingUnavailable, EmbedResult
from runtime.metrics import Metrics
from schemas.index.contract import Generation

R = TypeVar("R")
_MOST_KEPT = 1000
"""Questions whose vectors are kept, for one that comes again: 1.5 MB at 384 dimensions."""

_MOST_MODELS = 2
"""Models kept loaded: the live one's, and the one before it, for searches under way and a promotion taken back."""


class ThreadedEmbedder:
    """Embeds questions with the model that `load` gives for a generation. load runs in a thread, and again while it
    fails; it is called once for each model.

    threads is how many questions are embedded side by side; timeout_s bounds each, and each loading. Questions whose
    vectors are kept are answered while the breaker is open, too.
    """

    def __init__(
        self,
        load: Callable[[Generation], Embedder],
        metrics: Metrics,
        *,
        threads: int,
        timeout_s: float,
        breaker: Breaker | None = None,
    ) -> None:
        self._load = load
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._breaker = breaker or Breaker(EMBEDDING, failing=(ModelLater,))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="embed-query")
        self._loading = threading.Lock()
        self._embedders: OrderedDict[str, Embedder] = OrderedDict()
        self._kept: OrderedDict[tuple[str, str], list[float]] = OrderedDict()

    async def ready(self, generation: Generation) -> str:
        """The key of the generation's model, once loaded, for health. Raises ModelMismatch, ModelUnavailable."""
        return (await self._embedder(generation)).fingerprint.key()

    async def embed(self, generation: Generation, text: str) -> list[float]:
        """As QueryEmbedder.embed."""
        kept = self._kept.get((generation.model, text))
        if kept is not None:
            self._kept.move_to_end((generation.model, text))
            return kept
        try:
            result = await self._breaker.call(lambda: self._asked(generation, text))
        except CircuitOpen as error:
            raise ModelLater(str(error), error.retry_after_s) from error
        self._metrics.embedding_calls.inc(result.calls)
        self._metrics.embedding_texts.inc()
        self._metrics.embedding_tokens.inc(result.tokens)
        vector = [float(number) for number in result.vectors[0]]
        self._kept[generation.model, text] = vector
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return vector

    async def _asked(self, generation: Generation, text: str) -> EmbedResult:
        embedder = await self._embedder(generation)
        return await self._run(lambda: embedder.embed_query(text))

    def close(self) -> None:
        """Let the threads go; what they do now they finish."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _embedder(self, generation: Generation) -> Embedder:
        # A reference, for another thread may just let the model go.
        embedder = self._embedders.get(generation.model)
        if embedder is None:
            embedder = await self._run(lambda: self._loaded(generation))
        if embedder.fingerprint.key() != generation.model:
            raise ModelMismatch(
                f"generation {generation.name} was built with {generation.model}, this process embeds with "
                f"{embedder.fingerprint.key()}"
            )
        return embedder

    def _loaded(self, generation: Generation) -> Embedder:
        with self._loading:
            if generation.model not in self._embedders:
                self._embedders[generation.model] = self._load(generation)
                if len(self._embedders) > _MOST_MODELS:
                    self._embedders.popitem(last=False)
            return self._embedders[generation.model]

    async def _run(self, work: Callable[[], R]) -> R:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except TimeoutError as error:
            raise ModelLater(f"the embedding model did not answer within {self._timeout_s:g} s") from error
        except EmbeddingUnavailable as error:
            raise ModelLater(str(error), error.retry_after) from error
        except EmbeddingError as error:
            raise ModelUnavailable(str(error)) from error
