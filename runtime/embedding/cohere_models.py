"""Cohere's embedding models through its own client, `cohere.ClientV2`; the one place that imports it.

Before it: `select`. After it: `remote`, which batches and checks. Protocol: POST /v2/embed, where
`input_type` tells documents from questions; mixing them up ruins ranking without an error.
"""

import time
from collections.abc import Callable, Sequence

import cohere
import httpx
from cohere.core.api_error import ApiError
from cohere.core.parse_error import ParsingError

from runtime.embedding.bounded_http import bounded_client, checked_address
from runtime.embedding.contract import (
    EmbeddingMisconfigured,
    EmbeddingReplyInvalid,
    EmbeddingUnavailable,
    Role,
)
from runtime.embedding.remote import Connection, Reply, error_for_status

MOST_TEXTS = 96  # texts in one request, the API's limit
INPUT_TYPE: dict[Role, str] = {"document": "search_document", "query": "search_query"}
# Sent as the key to a server of one's own that asks for none; Cohere's client insists on having one.
NO_KEY = "none"


def cohere_client(url: str | None, api_key: str | None, timeout_s: float) -> tuple[cohere.ClientV2, Callable[[], None]]:
    """A client without retries of its own, each exchange bounded by `timeout_s`; and what closes it.

    `url` None means Cohere itself. Raises EmbeddingMisconfigured for Cohere itself without a key.
    """
    if api_key is None and url is None:
        raise EmbeddingMisconfigured(
            "Cohere needs a key: set embedding.api_key (THALWEG_EMBEDDING__API_KEY, or .._API_KEY_FILE)"
        )
    http = bounded_client(timeout_s)
    client = cohere.ClientV2(
        api_key=api_key or NO_KEY,
        base_url=_root(url),
        timeout=timeout_s,
        max_retries=0,
        httpx_client=http,
        log_warning_experimental_features=False,
    )
    return client, http.close


def cohere_connection(
    model: str,
    *,
    url: str | None,
    api_key: str | None,
    timeout_s: float,
    output_dimension: int | None = None,
    now: Callable[[], float] = time.time,
) -> Connection:
    """For `RemoteEmbedder`; `output_dimension` is sent only if given (embed-v4 and later know it)."""
    client, close = cohere_client(url, api_key, timeout_s)
    source = f"cohere model {model}"
    options = {} if output_dimension is None else {"output_dimension": output_dimension}

    def ask(texts: Sequence[str], role: Role) -> Reply:
        try:
            answer = client.embed(
                model=model,
                input_type=INPUT_TYPE[role],
                texts=list(texts),
                embedding_types=["float"],
                truncate="END",
                **options,  # type: ignore[arg-type]  # one optional keyword
            )
        except ApiError as error:
            if error.status_code is None or 200 <= error.status_code < 300:
                raise EmbeddingReplyInvalid(f"{source} sent an answer that is not Cohere's") from error
            raise error_for_status(
                error.status_code,
                error.headers or {},
                _said(error.body),
                source=source,
                texts=texts,
                secret=api_key,
                now=now,
            ) from error
        except (ParsingError, TypeError, ValueError) as error:
            # What the client's unchecked models throw at an answer of another shape.
            raise EmbeddingReplyInvalid(f"{source} sent an answer that is not Cohere's") from error
        except httpx.TimeoutException as error:
            raise EmbeddingUnavailable(f"{source} did not answer within {timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise EmbeddingUnavailable(f"{source} cannot be reached: {error}") from error
        return _reply(answer, texts, source)

    return Connection(ask, close, MOST_TEXTS)


def _reply(answer: object, texts: Sequence[str], source: str) -> Reply:
    # The client's models are unchecked: any field may be missing or of another type than it says.
    echoed = getattr(answer, "texts", None)
    if isinstance(echoed, list) and _other_order(echoed, texts):
        raise EmbeddingReplyInvalid(f"{source} answered the texts in another order")
    rows = getattr(getattr(answer, "embeddings", None), "float_", None)
    billed = getattr(getattr(getattr(answer, "meta", None), "billed_units", None), "input_tokens", None)
    return Reply(rows, int(billed) if isinstance(billed, int | float) else None)


def _other_order(echoed: Sequence[object], sent: Sequence[str]) -> bool:
    """Whether an echoed text is another one of ours; one merely rewritten by the server is no proof."""
    wanted = [_folded(text) for text in sent]
    known = set(wanted)
    return any(
        (folded := _folded(str(echo))) != want and folded in known for echo, want in zip(echoed, wanted, strict=False)
    )


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _said(body: object) -> str:
    return str(body.get("message", "")) if isinstance(body, dict) else str(body or "")


def _root(url: str | None) -> str | None:
    """The client adds the version itself; addresses are often written with it."""
    if url is None:
        return None
    return str(checked_address(url)).rstrip("/").removesuffix("/v1").removesuffix("/v2")
