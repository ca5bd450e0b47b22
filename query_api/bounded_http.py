"""The HTTP client by which models are asked: no redirects, and no reply larger than one has reason to be.

Before it: `answering/model_http.py`, `retrieval/rerank_models.py`. After it: httpx. (Models that embed are asked from
threads: `runtime/embedding/bounded_http.py`.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import httpx

_LONGEST_CONNECT_S = 10.0


def bounded_client(timeout_s: float, largest: int, headers: Mapping[str, str] | None = None) -> httpx.AsyncClient:
    """timeout_s bounds single reads, not the whole; a reply above `largest` bytes raises httpx.ReadError."""

    async def bound(response: httpx.Response) -> None:
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _Bounded(response.stream, response.request, largest)

    return httpx.AsyncClient(
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, _LONGEST_CONNECT_S)),
        limits=httpx.Limits(max_connections=50),
        headers=headers,
        event_hooks={"response": [bound]},
    )


class _Bounded(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, request: httpx.Request, largest: int) -> None:
        self._stream = stream
        self._request = request
        self._largest = largest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = 0
        async for piece in self._stream:
            received += len(piece)
            if received > self._largest:
                raise httpx.ReadError("the reply is too large", request=self._request)
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()
