"""What models cost: tokens times the configured prices, counted in `cost_dollars_total`.

Before it: whoever asked a model and knows its tokens. After it: the metric, and `cost` in an answer.
"""

from __future__ import annotations

from runtime.metrics import Metrics
from runtime.settings_answering import Prices

_PRICED = 1_000_000
"""Tokens that a price is for."""


class Spending:
    """Counts for one process. Thread-safe."""

    def __init__(self, prices: Prices, metrics: Metrics) -> None:
        self._prices = prices.models
        self._metrics = metrics

    def count(self, kind: str, model: str, *, input_tokens: int, output_tokens: int = 0) -> float | None:
        """US dollars that these tokens cost, counted under `kind` (answer, embedding, rerank); None: no price known."""
        price = self._prices.get(model)
        if price is None:
            return None
        cost = (max(0, input_tokens) * price.input + max(0, output_tokens) * price.output) / _PRICED
        self._metrics.cost_dollars.labels(kind=kind, model=model).inc(cost)
        return cost
