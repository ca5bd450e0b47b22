"""A connection to Weaviate from the settings; used by the index stage, `generation ensure` and doctor."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx
from weaviate.auth import AuthApiKey
from weaviate.client import WeaviateClient
from weaviate.config import AdditionalConfig, Timeout
from weaviate.connect.base import ConnectionParams, ProtocolParams
from weaviate.exceptions import WeaviateBaseError

from runtime.settings import Weaviate

AWAY = (WeaviateBaseError, httpx.TransportError, OSError)
"""What the client raises when the server is away, or dies under a call: it does not translate all of the transport."""


class WeaviateUnavailable(Exception):
    """The server did not answer, or refused the key; the text names it."""


def connect(settings: Weaviate) -> WeaviateClient:
    """A connected client; close it when done. Raises WeaviateUnavailable."""
    http = urlsplit(settings.url)
    host, _, port = settings.grpc.rpartition(":")
    client = WeaviateClient(
        connection_params=ConnectionParams(
            http=ProtocolParams(
                host=http.hostname or "127.0.0.1",
                port=http.port or (443 if http.scheme == "https" else 80),
                secure=http.scheme == "https",
            ),
            grpc=ProtocolParams(host=host, port=int(port), secure=http.scheme == "https"),
        ),
        auth_client_secret=AuthApiKey(settings.api_key.get_secret_value()) if settings.api_key else None,
        additional_config=AdditionalConfig(
            timeout=Timeout(init=10, query=settings.timeout_s, insert=settings.timeout_s), trust_env=False
        ),
        skip_init_checks=True,
    )
    try:
        client.connect()
    except AWAY as error:
        client.close()
        raise WeaviateUnavailable(f"no answer from Weaviate at {settings.url}: {type(error).__name__}") from error
    _send_batches_once(client)
    return client


def _send_batches_once(client: WeaviateClient) -> None:
    """Let a batch fail that the server died under.

    The client would send the same bytes again and say nothing of it; but what a server that was killed holds half is
    made whole only by a write that differs (see `schemas.index.contract.STAMP`). There is no public setting.
    """
    connection: Any = client._connection
    send = connection.grpc_batch_objects

    def once(**asked: Any) -> Any:
        return send(**asked | {"max_retries": -1})

    connection.grpc_batch_objects = once
