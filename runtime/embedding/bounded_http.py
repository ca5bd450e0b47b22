"""An HTTP client for which a timeout means the whole exchange, and an answer has a largest size.

Used by both remote protocols. httpx bounds each read alone, so a server that sends a byte now and then
holds a worker for ever; here the clock runs from the request to the last byte.
"""

import time
from collections.abc import Callable, Iterator

import httpx

from runtime.embedding.contract import EmbeddingMisconfigured

# 96 vectors of 4,096 dimensions written out as JSON are about 9 MB.
LARGEST_ANSWER = 64 * 1024 * 1024
LONGEST_CONNECT = 10.0  # seconds
_STARTED = "thalweg.started"


def checked_address(url: str) -> httpx.URL:
    """`url` without a slash at its end; raises EmbeddingMisconfigured if it is no HTTP address."""
    try:
        found = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise EmbeddingMisconfigured(f"embedding.url {url!r} is no HTTP address: {error}") from error
    if found.scheme not in ("http", "https") or not found.host:
        raise EmbeddingMisconfigured(f"embedding.url {url!r} is no HTTP address: http:// or https:// and a host")
    return found


def bounded_client(timeout_s: float, clock: Callable[[], float] = time.monotonic) -> httpx.Client:
    """A client whose every exchange ends within about `timeout_s` seconds, else an httpx.TimeoutException.

    (Connecting has a bound of its own, and a single read may begin just before the end: at most twice
    that and 10 s.) An answer over 64 MiB raises httpx.ReadError. Proxies are taken from the environment
    as usual; redirects are not followed.
    """

    def started(request: httpx.Request) -> None:
        request.extensions = {**request.extensions, _STARTED: clock()}

    def answered(response: httpx.Response) -> None:
        if isinstance(response.stream, httpx.SyncByteStream):
            deadline = response.request.extensions[_STARTED] + timeout_s
            response.stream = _Bounded(response.stream, response.request, deadline, clock)

    return httpx.Client(
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, LONGEST_CONNECT)),
        follow_redirects=False,
        event_hooks={"request": [started], "response": [answered]},
    )


class _Bounded(httpx.SyncByteStream):
    def __init__(
        self,
        stream: httpx.SyncByteStream,
        request: httpx.Request,
        deadline: float,
        clock: Callable[[], float],
    ) -> None:
        self._stream = stream
        self._request = request
        self._deadline = deadline
        self._clock = clock

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        for piece in self._stream:
            received += len(piece)
            if received > LARGEST_ANSWER:
                raise httpx.ReadError("the answer is too large", request=self._request)
            if self._clock() > self._deadline:
                raise httpx.ReadTimeout("the answer took too long", request=self._request)
            yield piece

    def close(self) -> None:
        self._stream.close()
