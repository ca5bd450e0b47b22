"""Questions to vectors, off the event loop: the port `QueryEmbedder` over one `runtime.embedding` model.

Before it: `retrieval.py`. After it: `runtime/embedding/select.py`, loaded in a thread when the process starts.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from query_api.ports import ModelMismatch, ModelUnavailable
from runtime.embedding.contract import Embedder, EmbeddingError, EmbedResult
from runtime.metrics import Metrics

R = TypeVar("R")
_MOST_KEPT = 1000
"""Questions whose vectors are kept, for one that comes again: 1.5 MB at 384 dimensions."""


class ThreadedEmbedder:
    """Embeds questions with the model that `load` gives. load runs in a thread, and again while it fails.

    threads is how many questions are embedded side by side; timeout_s bounds each.
    """

    def __init__(self, load: Callable[[], Embedder], metrics: Metrics, *, threads: int, timeout_s: float) -> None:
        self._load = load
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="embed-query")
        self._loading = threading.Lock()
        self._embedder: Embedder | None = None
        self._kept: OrderedDict[tuple[str, str], list[float]] = OrderedDict()

    async def ready(self) -> str:
        """The name of the loaded model, for health. Raises ModelUnavailable."""
        return (await self._run(self._loaded)).fingerprint.key()

    async def embed(self, model: str, text: str) -> list[float]:
        kept = self._kept.get((model, text))
        if kept is not None:
            self._kept.move_to_end((model, text))
            return kept
        embedder = self._embedder if self._embedder is not None else await self._run(self._loaded)
        if embedder.fingerprint.key() != model:
            raise ModelMismatch(
                f"the live generation was built with {model}, this process embeds with {embedder.fingerprint.key()}"
            )
        result: EmbedResult = await self._run(lambda: embedder.embed_query(text))
        self._metrics.embedding_calls.inc(result.calls)
        self._metrics.embedding_texts.inc()
        self._metrics.embedding_tokens.inc(result.tokens)
        vector = [float(number) for number in result.vectors[0]]
        self._kept[model, text] = vector
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return vector

    def close(self) -> None:
        """Let the threads go; what they do now they finish."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _loaded(self) -> Embedder:
        with self._loading:
            if self._embedder is None:
                self._embedder = self._load()
            return self._embedder

    async def _run(self, work: Callable[[], R]) -> R:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except TimeoutError as error:
            raise ModelUnavailable(f"the embedding model did not answer within {self._timeout_s:g} s") from error
        except EmbeddingError as error:
            raise ModelUnavailable(str(error)) from error
