"""The query API as the demo and the benchmark ask it: search, question, document; and how long until something is so.

Before: a running stack. After: `load`, `play`, and tests/bench.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

POLL_S = 0.01
CALL_S = 30.0


class ApiAway(Exception):
    """The API does not answer, or refuses; the text says which and why."""


class Client:
    """One key, one knowledge base. Not for several threads at once; each makes its own."""

    def __init__(self, url: str, key: str, knowledge_base: str) -> None:
        self._base = knowledge_base
        # Everything asked is on this machine: no proxy of the environment stands between.
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=CALL_S, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def search(self, query: str, *, mode: str = "hybrid", limit: int = 5) -> list[dict[str, Any]]:
        """The hits of `POST /v1/search`. Raises ApiAway."""
        found = self._post("/v1/search", query, mode=mode, limit=limit)
        return list(found["hits"])

    def ask(self, question: str) -> dict[str, Any]:
        """The answer of `POST /v1/query`. Raises ApiAway."""
        return self._post("/v1/query", question, limit=5)

    def document(self, document_id: str) -> dict[str, Any] | None:
        """What is indexed of a document, its first chunk with it; None if it is not there. Raises ApiAway."""
        answered = self._send(
            "GET", f"/v1/documents/{quote(document_id, safe='')}", params={"knowledge_base": self._base, "limit": 1}
        )
        # Before its first document the knowledge base is not there either.
        return None if answered.status_code in (403, 404) else self._json(answered)

    def stats(self) -> dict[str, Any]:
        """Counts of the knowledge base. Raises ApiAway."""
        return self._json(self._send("GET", "/v1/stats", params={"knowledge_base": self._base}))

    def _post(self, path: str, query: str, **more: Any) -> dict[str, Any]:
        body = {"query": query, "knowledge_bases": [self._base], **more}
        return self._json(self._send("POST", path, json=body))

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise ApiAway(f"the query API at {self._http.base_url} does not answer: {type(error).__name__}") from error

    def _json(self, answered: httpx.Response) -> dict[str, Any]:
        if answered.is_error:
            raise ApiAway(f"{answered.request.url.path} answers {answered.status_code}: {answered.text[:300]}")
        return dict(answered.json())


def seconds_until(true: Callable[[], bool], since: float, timeout_s: float) -> float | None:
    """Seconds from `since` (monotonic) until `true` first says so, asked every 10 ms; None after timeout_s."""
    while True:
        if true():
            return time.monotonic() - since
        if time.monotonic() - since > timeout_s:
            return None
        time.sleep(POLL_S)


def percentile(seconds: list[float], share: float) -> float:
    """The nearest-rank percentile: one of the values. Raises ValueError for none."""
    if not seconds:
        raise ValueError("no values")
    return sorted(seconds)[max(0, math.ceil(round(share * len(seconds), 6)) - 1)]
