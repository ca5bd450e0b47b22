"""Any server with OpenAI's embedding endpoint: OpenAI itself, vLLM, TEI, Ollama, a gateway.

Before it: `select`. After it: `remote`, which batches and checks. Protocol: POST {url}/embeddings with
`input`, `model`, `encoding_format`; each item of the answer carries the `index` of its text.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import httpx

from runtime.embedding.bounded_http import bounded_client, checked_address
from runtime.embedding.contract import (
    EmbeddingMisconfigured,
    EmbeddingReplyInvalid,
    EmbeddingUnavailable,
    Role,
)
from runtime.embedding.known_models import Prefixes
from runtime.embedding.remote import Connection, Reply, error_for_status

OPENAI = "https://api.openai.com/v1"
MOST_TEXTS = 2048  # texts in one request, OpenAI's limit


def openai_connection(
    model: str,
    *,
    url: str | None,
    api_key: str | None,
    timeout_s: float,
    dimensions: int | None = None,
    prefixes: Prefixes,
    now: Callable[[], float] = time.time,
) -> Connection:
    """For `RemoteEmbedder`: `url` None is OpenAI itself; `dimensions` is sent only if given.

    Raises EmbeddingMisconfigured for OpenAI itself without a key, or for an address that is none.
    """
    if api_key is None and url is None:
        raise EmbeddingMisconfigured(
            "OpenAI needs a key: set embedding.api_key (THALWEG_EMBEDDING__API_KEY, or .._API_KEY_FILE)"
        )
    address = _endpoint(url or OPENAI)
    http = bounded_client(timeout_s)
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    options: dict[str, object] = {"model": model, "encoding_format": "float"}
    if dimensions is not None:
        options["dimensions"] = dimensions
    front: dict[Role, str] = {"document": prefixes.document, "query": prefixes.query}
    source = f"openai model {model}"

    def ask(texts: Sequence[str], role: Role) -> Reply:
        body = {**options, "input": [front[role] + text for text in texts]}
        try:
            answer = http.post(address, json=body, headers=headers)
        except httpx.TimeoutException as error:
            raise EmbeddingUnavailable(f"{source} did not answer within {timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise EmbeddingUnavailable(f"{source} cannot be reached: {error}") from error
        if not answer.is_success:
            raise error_for_status(
                answer.status_code,
                answer.headers,
                _said(answer),
                source=source,
                texts=texts,
                secret=api_key,
                now=now,
            )
        return _reply(_json(answer), len(texts), source)

    return Connection(ask, http.close, MOST_TEXTS)


def _reply(answer: object, count: int, source: str) -> Reply:
    items = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(answer, Mapping) or not isinstance(items, list):
        raise EmbeddingReplyInvalid(f"{source} sent no list of vectors: is embedding.url right?")
    by_index = {
        item["index"]: item.get("embedding")
        for item in items
        if isinstance(item, Mapping) and isinstance(item.get("index"), int)
    }
    if len(items) != count or set(by_index) != set(range(count)):
        raise EmbeddingReplyInvalid(f"{source} sent {len(items)} vectors for {count} texts, or numbered wrongly")
    usage = answer.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, Mapping) else None
    return Reply([by_index[i] for i in range(count)], tokens if isinstance(tokens, int) else None)


def _json(answer: httpx.Response) -> object:
    try:
        decoded: object = answer.json()
    except ValueError:
        return None
    return decoded


def _said(answer: httpx.Response) -> str:
    """The message of an error: OpenAI nests it, other servers put it on top or send plain text."""
    found = _json(answer)
    if isinstance(found, Mapping):
        inner = found.get("error", found)
        if isinstance(inner, Mapping):
            return str(inner.get("message") or inner.get("detail") or "")
        return str(inner)
    return answer.text


def _endpoint(url: str) -> str:
    """`/v1` is supplied where an address has no path at all."""
    address = checked_address(url)
    return f"{address}/embeddings" if address.path.strip("/") else f"{address}/v1/embeddings"
