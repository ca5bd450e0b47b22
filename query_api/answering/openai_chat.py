"""Any server that speaks OpenAI's chat completions: POST <url>/chat/completions; marks `[n]` are its citations.

Before it: `writer.py`. After it: OpenAI, vLLM, Ollama, a gateway. A server that answers a request for a stream with one
JSON body is understood, too.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx

from query_api.answering.answers import AnswerLater, AnswerUnavailable
from query_api.answering.chat import Cited, Reply, Task
from query_api.answering.model_http import events, opened, tried
from query_api.answering.passages import framed
from query_api.answering.prompts import IN_LINES
from runtime.settings_answering import Answer as AnswerSettings

_URL = "https://api.openai.com/v1"
_WHO = "the answering model"
_MARKS = re.compile(r"(?:\s?\[\d{1,3}\])+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")


class OpenAiChat:
    """Implements `Chat`. The client `http` is the caller's."""

    rules = IN_LINES

    def __init__(self, settings: AnswerSettings, key: str | None, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._url = f"{(settings.url or _URL).rstrip('/')}/chat/completions"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = http

    async def parts(self, task: Task, *, streamed: bool) -> AsyncGenerator[str | Reply, None]:
        """As Chat."""
        response = await tried(lambda: self._ask(task, streamed=streamed))
        try:
            if "text/event-stream" not in response.headers.get("Content-Type", ""):
                text, usage = await _whole(response)
                yield text
                yield _reply(text, usage)
                return
            said: list[str] = []
            usage, over = None, False
            async for event in events(response, _WHO):
                if event is None:
                    over = True
                    break
                piece, ended = _delta(event)
                usage, over = event.get("usage") or usage, over or ended
                if piece:
                    said.append(piece)
                    yield piece
            if not over:
                raise AnswerLater(f"{_WHO} broke off")
            yield _reply("".join(said), usage)
        finally:
            await response.aclose()

    async def _ask(self, task: Task, *, streamed: bool) -> httpx.Response:
        body: dict[str, Any] = {
            "model": task.model,
            "messages": [
                {"role": "system", "content": f"{task.prompt}\n\n{self.rules}"},
                {"role": "user", "content": f"{framed(task.passages)}\n\nQuestion: {task.question}"},
            ],
            "temperature": self._settings.temperature,
            "max_tokens": self._settings.max_tokens,
        }
        if streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        request = self._http.build_request("POST", self._url, json=body, headers=self._headers)
        response = await opened(self._http, request, _WHO)
        if not streamed:
            try:
                await response.aread()
            except httpx.HTTPError as error:
                raise AnswerLater(f"{_WHO} broke off ({type(error).__name__})") from error
        return response


async def _whole(response: httpx.Response) -> tuple[str, object]:
    try:
        await response.aread()
        found = response.json()
        text = found["choices"][0]["message"]["content"] or ""
        usage = found.get("usage")
    except httpx.HTTPError as error:
        raise AnswerLater(f"{_WHO} broke off ({type(error).__name__})") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise AnswerUnavailable(f"{_WHO} sent an answer that is not a chat completion") from error
    if not isinstance(text, str):
        raise AnswerUnavailable(f"{_WHO} sent an answer that is not text")
    return text, usage


def _delta(event: Mapping[str, Any]) -> tuple[str, bool]:
    """(a piece of text, whether the answer is over). Raises AnswerLater for an error in the stream."""
    if event.get("error"):
        raise AnswerLater(f"{_WHO} broke off with an error")
    choices = event.get("choices")
    if choices == []:
        return "", False  # the usage comes in a frame of its own
    try:
        choice = event["choices"][0]
        piece = choice["delta"].get("content") or ""
        ended = choice.get("finish_reason") is not None
    except (LookupError, TypeError, AttributeError) as error:
        raise AnswerUnavailable(f"{_WHO} sent a frame that is none of a chat stream") from error
    if not isinstance(piece, str):
        raise AnswerUnavailable(f"{_WHO} sent a piece that is not text")
    return piece, ended


def _reply(text: str, usage: object) -> Reply:
    counted = usage if isinstance(usage, Mapping) else {}
    counts = [counted.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return Reply(marked(text), *(count if isinstance(count, int) else None for count in counts))


def marked(text: str) -> tuple[Cited, ...]:
    """What marks `[n]` in an answer cite: each the statement before it, back to the mark or the sentence before."""
    cited: list[Cited] = []
    begin = 0
    for mark in _MARKS.finditer(text):
        statement = text[begin : mark.start()]
        body = statement.rstrip().rstrip(".!?。！？")
        start = max((end.end() for end in _SENTENCE_END.finditer(body)), default=0)
        start += len(statement[start:]) - len(statement[start:].lstrip())
        if statement[start:].strip():
            numbers = re.findall(r"\d+", mark.group())
            cited += [Cited(begin + start, mark.start(), int(number)) for number in numbers]
        begin = mark.end()
    return tuple(cited)
