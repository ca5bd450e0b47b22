"""What a protocol has to do for an answer: carry a task to a model, and bring back its text and what it cites.

Before it: `writer.py`, which asks. After it: `cohere_chat.py`, `openai_chat.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from query_api.answering.passages import Passage


@dataclass(frozen=True)
class Task:
    """A question on one line, the passages to answer it from, the model, and what it is told before."""

    model: str
    prompt: str
    question: str
    passages: Sequence[Passage]


@dataclass(frozen=True)
class Cited:
    """The stretch [start, end) of the model's text is supported by the passage of this number."""

    start: int
    end: int
    number: int


@dataclass(frozen=True)
class Reply:
    """What comes behind the text. Token counts are None where the server does not tell them."""

    cited: tuple[Cited, ...]
    input_tokens: int | None
    output_tokens: int | None


class Chat(Protocol):
    """One server, one protocol."""

    rules: str
    """What the model is told behind the prompt: how this protocol carries documents, and that they are data."""

    def parts(self, task: Task, *, streamed: bool) -> AsyncGenerator[str | Reply, None]:
        """The model's text in pieces (one, unless streamed), then, last, the Reply. Close it to stop the model.

        Raises AnswerLater or AnswerUnavailable; also in the middle. Waits are not bounded here.
        """
        ...
