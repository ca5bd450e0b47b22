"""Readiness of the servers that speak HTTP.

Before: a server's address. After: `connect`, `registry`, `weaviate` and `apps` probe with it.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping

from deploy.local.errors import NotReadyError

TIMEOUT_S = 5.0


def get(url: str, headers: Mapping[str, str] | None = None) -> bytes:
    """GET `url` and return the body; raises `NotReadyError` for anything but a 2xx answer within `TIMEOUT_S`.

    Proxy settings of the environment are not used: these addresses are on this machine. The standard library's
    client, because this runs several times a second while servers start and a richer one costs them CPU.
    """
    request = urllib.request.Request(url, headers=dict(headers or {}))  # noqa: S310 - our own http addresses
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as response:
            body: bytes = response.read()
    except urllib.error.HTTPError as error:
        raise NotReadyError(f"{url} answers {error.code}: {error.read(200).decode(errors='replace')}") from error
    except (OSError, ValueError) as error:
        raise NotReadyError(f"{url} does not answer: {error}") from error
    return body
