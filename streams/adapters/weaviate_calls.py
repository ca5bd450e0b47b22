"""Calls to Weaviate: what it answers and how it fails, in the words of the ports.

Before this: `weaviate_index.py`. After this: Weaviate's own client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import weaviate.exceptions as wx

from runtime.weaviate import AWAY
from streams.ports import Misconfigured, PermanentFailure, TemporaryFailure


def call(ask: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """One call, its errors mapped to ours: away, busy or slow is temporary, refused is permanent."""
    try:
        return ask(*given, **named)
    except wx.UnexpectedStatusCodeError as error:
        if error.status_code == 404:
            raise PermanentFailure("not_found", error.message[:300]) from error
        if error.status_code in (400, 422):
            raise PermanentFailure("index_refused", error.message[:300]) from error
        if error.status_code in (401, 403):
            raise Misconfigured(f"Weaviate: HTTP {error.status_code}: check weaviate.api_key") from error
        raise TemporaryFailure(f"Weaviate: HTTP {error.status_code}: {error.message[:300]}") from error
    except wx.WeaviateInsertManyAllFailedError as error:
        raise_object_error([error.message])
    except (wx.WeaviateInvalidInputError, wx.WeaviateInsertInvalidPropertyError) as error:
        raise PermanentFailure("index_refused", str(error)[:300]) from error
    except AWAY as error:
        raise TemporaryFailure(f"Weaviate: {type(error).__name__}: {str(error)[:300]}") from error


_REFUSALS = ("vector lengths don't match", "invalid", "inconsistent vector", "no such prop", "not a valid")


def raise_object_error(messages: Sequence[str]) -> None:
    """An object was not taken: for good if the object is at fault, else (read-only, memory, shutdown) for now."""
    text = "; ".join(sorted(set(messages)))[:300]
    if any(word in text.lower() for word in _REFUSALS):
        raise PermanentFailure("index_refused", text)
    raise TemporaryFailure(f"Weaviate did not take {len(messages)} objects: {text}")
