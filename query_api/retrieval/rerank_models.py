"""Models that rerank: Cohere by its own client, or any server with the `POST /rerank` that Jina, vLLM and others share.

Before it: `reranking.py`, the seam. After it: the vendors. Each call is bounded in time and in the reply's size, and
made once: a search does not wait for a second try of what only betters its order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from query_api.bounded_http import bounded_client
from query_api.retrieval.reranking import Reranker, RerankLater, RerankUnavailable, checked
from runtime.embedding.remote import retry_after
from runtime.settings import Rerank as RerankSettings
from runtime.settings import SettingsError

COHERE_MODEL = "rerank-v3.5"
_COHERE_URL = "https://api.cohere.com"
_LARGEST_REPLY = 4 * 1024 * 1024
"""Bytes: a hundred scores, with the texts that some servers repeat, are about a hundredth of it."""


def reranker_from(settings: RerankSettings) -> Reranker | None:
    """The reranker that the settings name, None for none; nobody is asked yet. Raises SettingsError."""
    key = settings.api_key.get_secret_value() if settings.api_key else None
    if settings.provider == "none":
        return None
    if settings.url is not None and httpx.URL(settings.url).scheme not in ("http", "https"):
        raise SettingsError(f"rerank.url: {settings.url!r} is no address: http:// or https:// and a host")
    if settings.provider == "cohere":
        if key is None and settings.url is None:
            raise SettingsError("rerank.api_key: cohere needs a key (THALWEG_RERANK__API_KEY, .._API_KEY_FILE)")
        return CohereRerank(settings, key)
    if settings.url is None or settings.model is None:
        raise SettingsError(
            "rerank.url, rerank.model: OpenAI has no reranker, so the address of a server that has one, and its model, "
            "are needed (THALWEG_RERANK__URL, THALWEG_RERANK__MODEL)"
        )
    return HttpRerank(settings, settings.url, settings.model, key)


class CohereRerank:
    """Cohere's rerank (`ClientV2`, POST /v2/rerank)."""

    def __init__(self, settings: RerankSettings, key: str | None) -> None:
        import cohere

        self._model = settings.model or COHERE_MODEL
        self._timeout_s = settings.timeout_s
        self._http = bounded_client(settings.timeout_s, _LARGEST_REPLY)
        root = (settings.url or _COHERE_URL).rstrip("/").removesuffix("/v1").removesuffix("/v2")
        self._client = cohere.AsyncClientV2(
            api_key=key or "none",  # the client insists on one, a server of one's own may not
            base_url=root,
            timeout=settings.timeout_s,
            max_retries=0,
            httpx_client=self._http,
        )

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """As Reranker."""
        from cohere.core.api_error import ApiError
        from cohere.core.parse_error import ParsingError

        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._client.rerank(model=self._model, query=query, documents=list(texts))
        except ApiError as error:
            raise _refused("Cohere", error.status_code, error.headers or {}) from error
        except (ParsingError, TypeError, ValueError) as error:
            # What the client's unchecked models throw at a reply of another shape.
            raise RerankUnavailable("Cohere's reply is none of a reranker") from error
        except (TimeoutError, httpx.HTTPError) as error:
            raise _away("Cohere", error, self._timeout_s) from error
        # The client's models are unchecked: any field may be missing or of another type than it says.
        results = getattr(found, "results", None)
        if not isinstance(results, list):
            raise RerankUnavailable("Cohere's reply is none of a reranker")
        pairs = [(getattr(one, "index", None), getattr(one, "relevance_score", None)) for one in results]
        return checked(pairs, len(texts), "Cohere")

    async def close(self) -> None:
        """As Reranker."""
        await self._http.aclose()


class HttpRerank:
    """`POST <url>/rerank` with `query` and `documents`: Jina, vLLM, Infinity, llama.cpp; scores come by `index`."""

    def __init__(self, settings: RerankSettings, url: str, model: str, key: str | None) -> None:
        self._model = model
        self._timeout_s = settings.timeout_s
        address = url.rstrip("/")
        # `/v1` is supplied where an address has no path at all, as for the other models.
        self._url = f"{address}/rerank" if httpx.URL(address).path.strip("/") else f"{address}/v1/rerank"
        self._http = bounded_client(
            settings.timeout_s, _LARGEST_REPLY, {"Authorization": f"Bearer {key}"} if key else {}
        )

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """As Reranker."""
        body = {
            "model": self._model,
            "query": query,
            "documents": list(texts),
            "top_n": len(texts),
            "return_documents": False,
        }
        try:
            async with asyncio.timeout(self._timeout_s):
                answered = await self._http.post(self._url, json=body)
        except (TimeoutError, httpx.HTTPError) as error:
            raise _away("the reranker", error, self._timeout_s) from error
        if not answered.is_success:
            raise _refused("the reranker", answered.status_code, answered.headers)
        try:
            found: Any = answered.json()
        except ValueError as error:
            raise RerankUnavailable("the reranker sent no JSON") from error
        results = found.get("results") if isinstance(found, Mapping) else None
        if not isinstance(results, list) or not all(isinstance(one, Mapping) for one in results):
            raise RerankUnavailable("the reranker's reply has no list `results`: check rerank.url")
        return checked([(one.get("index"), one.get("relevance_score")) for one in results], len(texts), "the reranker")

    async def close(self) -> None:
        """As Reranker."""
        await self._http.aclose()


def _refused(who: str, status: int | None, headers: Mapping[str, str]) -> RerankUnavailable:
    if status in (401, 403):
        return RerankUnavailable(f"{who} refuses the key: check rerank.api_key")
    if status in (400, 404, 422):
        return RerankUnavailable(f"{who} refuses the request (status {status}): check rerank.model and rerank.url")
    return RerankLater(f"{who} is busy or broken (status {status})", retry_after(headers, time.time))


def _away(who: str, error: Exception, timeout_s: float) -> RerankLater:
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return RerankLater(f"{who} did not answer within {timeout_s:g} s")
    return RerankLater(f"{who} cannot be reached ({type(error).__name__})")
