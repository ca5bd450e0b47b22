"""Cohere's chat with documents, whose citations name the documents: POST /v2/chat.

Before it: `writer.py`. After it: the vendor. Whole answers go through its own client. Streams are read here: that
client leaves out a frame it cannot read, so that an answer has a hole, and writes the frame into the log.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any

import httpx

from query_api.answering.answers import AnswerLater, AnswerUnavailable
from query_api.answering.chat import Cited, Reply, Task
from query_api.answering.model_http import events, opened, refused, tried, unreachable
from query_api.answering.prompts import IN_DOCUMENTS
from runtime.settings_answering import Answer as AnswerSettings

_URL = "https://api.cohere.com"
_WHO = "Cohere"
_BROKEN = ("ERROR", "TIMEOUT")


class CohereChat:
    """Implements `Chat`. The client `http` is the caller's."""

    rules = IN_DOCUMENTS

    def __init__(self, settings: AnswerSettings, key: str | None, http: httpx.AsyncClient) -> None:
        import cohere

        self._settings = settings
        self._root = (settings.url or _URL).rstrip("/").removesuffix("/v1").removesuffix("/v2")
        self._headers = {"Authorization": f"Bearer {key or 'none'}", "Accept": "text/event-stream"}
        self._http = http
        self._client = cohere.AsyncClientV2(
            api_key=key or "none",
            base_url=self._root,
            timeout=settings.timeout_s,
            max_retries=0,
            httpx_client=http,
            log_warning_experimental_features=False,
        )

    async def parts(self, task: Task, *, streamed: bool) -> AsyncGenerator[str | Reply, None]:
        """As Chat."""
        if streamed:
            async for part in self._streamed(task):
                yield part
            return
        text, reply = await tried(lambda: self._ask(task))
        yield text
        yield reply

    async def _ask(self, task: Task) -> tuple[str, Reply]:
        import cohere
        from cohere.core.api_error import ApiError

        asked = self._request(task)
        try:
            found = await self._client.chat(
                **{**asked, "citation_options": cohere.CitationOptions(**asked["citation_options"])}
            )
            _finished(found.finish_reason)
            text = "".join(getattr(part, "text", None) or "" for part in found.message.content or ())
            cited = [one.dict() for one in found.message.citations or ()]
            return text, _reply(text, cited, found.usage.dict() if found.usage else {})
        except ApiError as error:
            raise refused(_WHO, error.status_code, error.headers or {}) from error
        except httpx.HTTPError as error:
            raise unreachable(_WHO, error) from error
        except (AttributeError, TypeError, ValueError) as error:
            # What the client's unchecked models throw at an answer of another shape.
            raise AnswerUnavailable(f"{_WHO} sent an answer that is not a chat answer") from error

    async def _streamed(self, task: Task) -> AsyncGenerator[str | Reply, None]:
        body = {**self._request(task), "stream": True}
        request = self._http.build_request("POST", f"{self._root}/v2/chat", json=body, headers=self._headers)
        response = await tried(lambda: opened(self._http, request, _WHO))
        said: list[str] = []
        cited: list[object] = []
        try:
            async for event in events(response, _WHO):
                match (event or {}).get("type"):
                    case "content-delta":
                        piece = _inside(event, "delta", "message", "content", "text")
                        if isinstance(piece, str) and piece:
                            said.append(piece)
                            yield piece
                    case "citation-start":
                        found = _inside(event, "delta", "message", "citations")
                        cited += found if isinstance(found, list) else [found]
                    case "message-end":
                        _finished(_inside(event, "delta", "finish_reason"))
                        yield _reply("".join(said), cited, _inside(event, "delta", "usage"))
                        return
                    case None:
                        raise AnswerUnavailable(f"{_WHO} sent a frame that is none of a chat stream")
        finally:
            await response.aclose()
        raise AnswerLater(f"{_WHO} broke off")

    def _request(self, task: Task) -> dict[str, Any]:
        return {
            "model": task.model,
            "messages": [
                {"role": "system", "content": f"{task.prompt}\n\n{self.rules}"},
                {"role": "user", "content": task.question},
            ],
            "documents": [
                {"id": str(one.number), "data": {"title": one.title, "snippet": one.text}} for one in task.passages
            ],
            "citation_options": {"mode": "ACCURATE"},
            "temperature": self._settings.temperature,
            "max_tokens": self._settings.max_tokens,
        }


def _finished(reason: object) -> None:
    if isinstance(reason, str) and reason.upper().startswith(_BROKEN):
        raise AnswerLater(f"{_WHO} broke off ({reason.upper()[:40]})")


def _inside(found: object, *names: str) -> Any:
    """The member at this path; None where there is none."""
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _reply(text: str, cited: Iterable[object], usage: object) -> Reply:
    stretches = []
    for one in cited:
        stretch = _stretch(text, one)
        sources = _inside(one, "sources")
        for source in sources if stretch and isinstance(sources, list) else ():
            number = str(_inside(source, "id") or "").rpartition(":")[2]
            if stretch and number.isdecimal():
                stretches.append(Cited(*stretch, int(number)))
    counts = [_inside(usage, "tokens", name) for name in ("input_tokens", "output_tokens")]
    return Reply(tuple(stretches), *(int(count) if isinstance(count, int | float) else None for count in counts))


def _stretch(text: str, cited: object) -> tuple[int, int] | None:
    """Where the cited words stand in the text; the vendor's offsets count only if they say the same."""
    start, end, words = (_inside(cited, name) for name in ("start", "end", "text"))
    if not isinstance(words, str) or not words:
        return None
    if isinstance(start, int) and isinstance(end, int) and 0 <= start < end and text[start:end] == words:
        return start, end
    found = text.find(words)
    return None if found < 0 else (found, found + len(words))
