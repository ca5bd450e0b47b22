"""A connection to Weaviate from the settings; used by the index stage, `generation ensure` and doctor."""

from __future__ import annotations

from urllib.parse import urlsplit

from weaviate.auth import AuthApiKey
from weaviate.client import WeaviateClient
from weaviate.config import AdditionalConfig, Timeout
from weaviate.connect.base import ConnectionParams, ProtocolParams
from weaviate.exceptions import WeaviateBaseError

from runtime.settings import Weaviate


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
    except WeaviateBaseError as error:
        client.close()
        raise WeaviateUnavailable(f"no answer from Weaviate at {settings.url}: {type(error).__name__}") from error
    return client
