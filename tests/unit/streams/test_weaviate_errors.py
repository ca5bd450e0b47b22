"""The store's errors in our words: what was away is waited for, and no record is blamed for it."""

from __future__ import annotations

import httpx
import pytest
from weaviate.exceptions import WeaviateConnectionError

from streams.adapters.weaviate_calls import call
from streams.ports import TemporaryFailure


@pytest.mark.parametrize(
    "error",
    [
        httpx.ReadError("[Errno 104] Connection reset by peer"),
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        httpx.ReadTimeout("timed out"),
        ConnectionRefusedError(),
        WeaviateConnectionError("away"),
    ],
)
def test_a_store_that_dies_under_a_call_is_waited_for(error: Exception) -> None:
    """The client lets some of its transport's errors through as they are; taken for a defect, they park records."""

    def ask() -> None:
        raise error

    with pytest.raises(TemporaryFailure):
        call(ask)
