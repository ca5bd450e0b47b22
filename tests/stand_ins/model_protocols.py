"""The shapes of Cohere's v2 API (embed, rerank, chat) and OpenAI's v1 API (embeddings, chat/completions), and of the
`POST /v1/rerank` that Jina, vLLM, Infinity and llama.cpp share.

Sources: the request and event models of the cohere and openai client packages; both clients are run
against this in tests/unit/runtime/embedding/test_model_server.py.
"""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.stand_ins.model_answers import (
    NO_ANSWER,
    cited_answer,
    numbered_passages,
    relevance,
    vector_of,
    words_of,
)

Body = dict[str, Any]
INPUT_TYPES = ("search_document", "search_query", "classification", "clustering", "image")


def texts_of(body: Body) -> list[str]:
    """The texts a request wants embedded."""
    given: Any = body.get("texts") or body.get("input") or []
    return [given] if isinstance(given, str) else [str(text) for text in given]


def complaint(path: str, body: Body, texts: tuple[str, ...]) -> str | None:
    """What the real server would refuse about a request."""
    if not body.get("model"):
        return "model is required"
    if path == "/v2/embed":
        if body.get("input_type") not in INPUT_TYPES:
            return f"input_type must be one of {', '.join(INPUT_TYPES)}"
        if not body.get("embedding_types"):
            return "embedding_types is required"
        if not 1 <= len(texts) <= 96:
            return "texts must hold 1 to 96 texts"
    if path == "/v1/embeddings" and (not texts or len(texts) > 2048 or not all(texts)):
        return "input must hold 1 to 2048 texts, none of them empty"
    if path.endswith("/rerank") and not (body.get("query") and body.get("documents")):
        return "query and documents are required"
    if path.endswith(("chat", "completions")) and not body.get("messages"):
        return "messages is required"
    return None


def error(path: str, message: str) -> Body:
    """An error body in the dialect of `path`."""
    if path.startswith("/v1"):
        return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
    return {"id": "stand-in", "message": message}


def cohere_embed(body: Body, dimension: int, _answer: str | None) -> Body:
    texts = texts_of(body)
    wanted = body.get("output_dimension") or dimension
    billed = {"input_tokens": _tokens(*texts)}
    return {
        "id": "stand-in",
        "response_type": "embeddings_by_type",
        "embeddings": {"float": [vector_of(text, wanted) for text in texts]},
        "texts": texts,
        "meta": {"api_version": {"version": "2"}, "billed_units": billed},
    }


def cohere_rerank(body: Body, _dimension: int, _answer: str | None) -> Body:
    scored = [
        {"index": number, "relevance_score": relevance(body["query"], _document_text(document))}
        for number, document in enumerate(body["documents"])
    ]
    scored.sort(key=lambda one: -one["relevance_score"])
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    return {"id": "stand-in", "results": scored[: body.get("top_n") or len(scored)], "meta": meta}


def jina_rerank(body: Body, dimension: int, answer: str | None) -> Body:
    """As vLLM's documentation shows it; `return_documents` is true unless said otherwise."""
    found = cohere_rerank(body, dimension, answer)
    results = found["results"]
    if body.get("return_documents", True):
        texts = [_document_text(document) for document in body["documents"]]
        results = [{**one, "document": {"text": texts[one["index"]]}} for one in results]
    count = _tokens(body["query"], *map(_document_text, body["documents"]))
    return {"id": "stand-in", "model": body["model"], "usage": {"total_tokens": count}, "results": results}


def cohere_chat(body: Body, _dimension: int, answer: str | None) -> Body:
    text, citations = _cohere_answer(body, answer)
    message: Body = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    if citations:
        message["citations"] = citations
    return {"id": "stand-in", "finish_reason": "COMPLETE", "message": message, "usage": _cohere_usage(body, text)}


def openai_embeddings(body: Body, dimension: int, _answer: str | None) -> Body:
    texts = texts_of(body)
    rows: list[Any] = [vector_of(text, body.get("dimensions") or dimension) for text in texts]
    if body.get("encoding_format") == "base64":
        rows = [base64.b64encode(np.asarray(row, dtype="<f4").tobytes()).decode() for row in rows]
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
    count = _tokens(*texts)
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "model": body["model"], "data": data, "usage": usage}


def openai_chat(body: Body, _dimension: int, answer: str | None) -> Body:
    text = _openai_answer(body, answer)
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return {**_openai_head(body, "chat.completion"), "choices": [choice], "usage": _openai_usage(body, text)}


ANSWER: dict[str, Callable[[Body, int, str | None], Body]] = {
    "/v2/embed": cohere_embed,
    "/v2/rerank": cohere_rerank,
    "/v2/chat": cohere_chat,
    "/v1/rerank": jina_rerank,
    "/v1/embeddings": openai_embeddings,
    "/v1/chat/completions": openai_chat,
}


def stream(path: str, body: Body, answer: str | None) -> list[str]:
    """The whole stream of a chat answer, one string for each server-sent event."""
    if path == "/v2/chat":
        return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in _cohere_events(body, answer)]
    return [f"data: {json.dumps(event)}\n\n" for event in _openai_events(body, answer)] + ["data: [DONE]\n\n"]


def spoilt_event(path: str, kind: str) -> str | None:
    """What stands in the middle of a stream that goes wrong in this way; None: nothing."""
    match kind:
        case "malformed":
            return 'data: {"type": "content-del\n\n'
        case "other_frame":
            return 'data: {"object": 3}\n\n'
        case "error_frame" if path == "/v2/chat":
            ended = {"finish_reason": "ERROR", "error": "the prompt was: ...", "usage": None}
            return f"event: message-end\ndata: {json.dumps({'type': 'message-end', 'delta': ended})}\n\n"
        case "error_frame":
            return f"data: {json.dumps(error(path, 'the prompt was: ...'))}\n\n"
    return None


def spoil(answer: Body, kind: str) -> None:
    """Make a good answer of embeddings or ranks a bad one, in place."""
    if isinstance(answer.get("results"), list):
        _spoil_ranks(answer["results"], kind)
    elif isinstance(answer.get("embeddings"), dict):
        rows = answer["embeddings"]["float"]
        _spoil_rows(rows, kind)
        if kind == "permuted":
            rows.reverse()
            answer["texts"].reverse()
        if kind == "rewritten_echo":
            answer["texts"] = [text.lower() for text in answer["texts"]]
    elif isinstance(answer.get("data"), list):
        items = answer["data"]
        rows = [item["embedding"] for item in items]
        _spoil_rows(rows, kind)
        answer["data"] = [{**item, "embedding": row} for item, row in zip(items, rows, strict=False)]
        if kind == "permuted":
            answer["data"].reverse()
        if kind == "misnumbered":
            answer["data"] = [{**item, "index": 0} for item in answer["data"]]


def _spoil_ranks(results: list[Body], kind: str) -> None:
    match kind:
        case "nan":
            results[-1]["relevance_score"] = float("nan")
        case "short":
            results.pop()
        case "permuted":
            results.reverse()
        case "misnumbered":
            for one in results:
                one["index"] = 0


def _spoil_rows(rows: list[list[float]], kind: str) -> None:
    match kind:
        case "nan":
            rows[-1][0] = float("nan")
        case "zero":
            rows[-1][:] = [0.0] * len(rows[-1])
        case "short":
            rows.pop()
        case "wrong_dimension":
            for row in rows:
                row.append(0.0)


def _document_text(document: Any) -> str:
    if isinstance(document, str):
        return document
    data = document.get("data", document)
    return str(data.get("text") or data.get("snippet") or data.get("content") or " ".join(map(str, data.values())))


def _message_text(message: Body) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in content)


def _question(body: Body) -> str:
    return next((_message_text(one) for one in reversed(body["messages"]) if one.get("role") == "user"), "")


def _cohere_answer(body: Body, answer: str | None) -> tuple[str, list[Body]]:
    if answer is not None:
        return answer, []
    given = [
        (str(one.get("id") or f"doc:{i}") if isinstance(one, dict) else f"doc:{i}", one)
        for i, one in enumerate(body.get("documents") or [])
    ]
    data = {identity: one.get("data", {}) if isinstance(one, dict) else {"text": one} for identity, one in given}
    pairs = cited_answer(_question(body), [(identity, _document_text(one)) for identity, one in given])
    text, citations = "", []
    for sentence, identity in pairs:
        start = len(text) + (1 if text else 0)
        text = f"{text} {sentence}".strip()
        source = {"type": "document", "id": identity, "document": {"id": identity, **data[identity]}}
        citations.append(
            {"start": start, "end": len(text), "text": sentence, "sources": [source], "type": "TEXT_CONTENT"}
        )
    return text or NO_ANSWER, citations


def _cohere_events(body: Body, answer: str | None) -> Iterator[Body]:
    text, citations = _cohere_answer(body, answer)
    start = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield {"type": "message-start", "id": "stand-in", "delta": {"message": start}}
    content = {"message": {"content": {"type": "text", "text": ""}}}
    yield {"type": "content-start", "index": 0, "delta": content}
    for piece in _pieces(text):
        yield {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": piece}}}}
    for number, citation in enumerate(citations):
        yield {"type": "citation-start", "index": number, "delta": {"message": {"citations": citation}}}
        yield {"type": "citation-end", "index": number}
    yield {"type": "content-end", "index": 0}
    yield {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": _cohere_usage(body, text)}}


def _cohere_usage(body: Body, text: str) -> Body:
    asked = [_message_text(one) for one in body["messages"]]
    counts = {
        "input_tokens": _tokens(*asked, *map(_document_text, body.get("documents") or [])),
        "output_tokens": _tokens(text),
    }
    return {"billed_units": counts, "tokens": counts}


def _openai_answer(body: Body, answer: str | None) -> str:
    if answer is not None:
        return answer
    prompt = "\n".join(_message_text(one) for one in body["messages"])
    # The question is what the last message says beside the passages; with all in one message, its last line.
    question = _question(body).strip().rsplit("\n", 1)[-1]
    pairs = cited_answer(question, numbered_passages(prompt.strip().removesuffix(question)))
    return " ".join(f"{sentence} [{number}]" for sentence, number in pairs) or NO_ANSWER


def _openai_events(body: Body, answer: str | None) -> Iterator[Body]:
    head = _openai_head(body, "chat.completion.chunk")
    text = _openai_answer(body, answer)
    yield {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
    for piece in _pieces(text):
        yield {**head, "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    if (body.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": _openai_usage(body, text)}


def _openai_head(body: Body, kind: str) -> Body:
    return {"id": "chatcmpl-stand-in", "object": kind, "created": 1_700_000_000, "model": body["model"]}


def _openai_usage(body: Body, text: str) -> Body:
    asked, said = _tokens(*(_message_text(one) for one in body["messages"])), _tokens(text)
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def _pieces(text: str) -> list[str]:
    words = text.split(" ")
    return [word if number == 0 else f" {word}" for number, word in enumerate(words)]


def _tokens(*texts: str) -> int:
    return sum(len(words_of(text)) for text in texts)
