"""Answers written by a model: what it gets, what it said, what it cites, what it cost. An `Answerer`.

Before it: `answers.py`, the seam. After it: a protocol (`chat.py`). Quotes are cut from the hits, never from what the
model got or said.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from query_api.answering.answers import NOTHING_FOUND, Answer, AnswerUnavailable, Citation, at_once
from query_api.answering.chat import Chat, Reply, Task
from query_api.answering.choice import simple
from query_api.answering.model_http import bounded
from query_api.answering.outgoing import Outgoing, addresses
from query_api.answering.passages import Passage, estimated_tokens, passages
from query_api.answering.sentences import best_sentence
from query_api.retrieval.visibility import Hit
from runtime.settings_answering import Answer as AnswerSettings
from runtime.spending import Spending

_WHO = "the answering model"
_LONGEST = 500_000
"""Characters of an answer; answer.max_tokens keeps honest servers far below."""


class Writer:
    """Implements `Answerer` over a protocol. model is the full model's name, prompt what is told before the rules."""

    def __init__(self, chat: Chat, settings: AnswerSettings, model: str, prompt: str, spending: Spending) -> None:
        self._chat = chat
        self._settings = settings
        self._model = model
        self._prompt = prompt
        self._spending = spending

    def identity(self, question: str) -> str:
        """As Answerer."""
        told = hashlib.sha256(f"{self._settings.url}\n{self._prompt}\n{self._chat.rules}".encode()).hexdigest()[:16]
        settings = self._settings
        limits = f"max_tokens={settings.max_tokens} context={settings.context_tokens}"
        return f"{settings.provider} {self._chosen(question)} {told} temperature={settings.temperature} {limits}"

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        """As Answerer."""
        async with aclosing(self._write(question, hits, streamed=False)) as parts:
            async for part in parts:
                if isinstance(part, Answer):
                    return part
        raise AnswerUnavailable(f"{_WHO} gave no answer")

    async def stream(self, question: str, hits: Sequence[Hit]) -> AsyncGenerator[str | Answer, None]:
        """As Answerer."""
        async with aclosing(self._write(question, hits, streamed=True)) as parts:
            async for part in parts:
                yield part

    def _chosen(self, question: str) -> str:
        smaller = self._settings.model_simple
        return smaller if smaller is not None and simple(question) else self._model

    async def _write(self, question: str, hits: Sequence[Hit], *, streamed: bool) -> AsyncGenerator[str | Answer, None]:
        given = passages(hits, self._settings.context_tokens)
        if not given:
            async for nothing in at_once(Answer(NOTHING_FOUND, (), "none")):
                yield nothing
            return
        task = Task(self._chosen(question), self._prompt, " ".join(question.split()), given)
        known = addresses([question, *(one.text for one in given), *(one.title for one in given)])
        outgoing = Outgoing(known)
        raw: list[str] = []
        length = 0
        shown: list[str] = []
        reply: Reply | None = None
        total_s = self._settings.timeout_s
        parts = bounded(
            self._chat.parts(task, streamed=streamed),
            _WHO,
            stall_s=self._settings.stall_s if streamed else total_s,
            total_s=total_s,
        )
        try:
            async with aclosing(parts):
                async for part in parts:
                    if isinstance(part, Reply):
                        reply = part
                        continue
                    raw.append(part)
                    length += len(part)
                    if length > _LONGEST:
                        raise AnswerUnavailable(f"{_WHO} did not come to an end")
                    if said := outgoing.feed(part):
                        shown.append(said)
                        yield said
        finally:
            # Also of an answer that was broken off: the model was at work, and is paid.
            usage, cost = self._billed(task, "".join(raw), reply)
        if reply is None or not "".join(raw).strip():
            raise AnswerUnavailable(f"{_WHO} gave no answer")
        if said := outgoing.finish():
            shown.append(said)
            yield said
        cited = _citations(reply, "".join(raw), outgoing, given, hits)
        yield Answer("".join(shown), cited, task.model, usage, cost)

    def _billed(self, task: Task, raw: str, reply: Reply | None) -> tuple[dict[str, int], float | None]:
        """(tokens, dollars) of one answer; estimated where the server does not tell, nothing if it never began."""
        asked = reply.input_tokens if reply else None
        said = reply.output_tokens if reply else None
        if reply is None and not raw:
            return {"input_tokens": 0, "output_tokens": 0}, 0.0
        if asked is None:
            told = [task.prompt, self._chat.rules, task.question, *(one.title + one.text for one in task.passages)]
            asked = sum(map(estimated_tokens, told))
        if said is None:
            said = estimated_tokens(raw)
        cost = self._spending.count("answer", task.model, input_tokens=asked, output_tokens=said)
        return {"input_tokens": asked, "output_tokens": said}, cost


def _citations(
    reply: Reply, raw: str, outgoing: Outgoing, given: Sequence[Passage], hits: Sequence[Hit]
) -> tuple[Citation, ...]:
    """The hits' sentences that say most of what the model says they support, of the part that it was given."""
    by_number = {one.number: one for one in given}
    found = []
    for cited in reply.cited:
        passage = by_number.get(cited.number)
        if passage is None:
            continue
        hit = hits[passage.hit]
        sentence = best_sentence(raw[cited.start : cited.end], hit.text[: passage.seen])
        if sentence is not None:
            start = hit.start + sentence.start
            begin, end = outgoing.placed(cited.start), outgoing.placed(cited.end)
            found.append(Citation(passage.hit, sentence.text, start, start + len(sentence.text), begin, end))
    return tuple(dict.fromkeys(found))
