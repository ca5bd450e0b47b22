"""Hits as a model gets them: data in a frame that no text can break, within a budget of tokens. Pure.

Before it: the hits of a search. After it: the protocols (`cohere_chat.py`, `openai_chat.py`). A model's copy is not
verbatim, and nothing is ever quoted from it: quotes are cut from the hit's own text (`writer.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from query_api.answering.sentences import sentences
from query_api.answering.unseen import without_unseen
from query_api.retrieval.visibility import Hit

_BYTES_PER_TOKEN = 3
"""English has about four, Chinese three: an estimate that is seldom too low, and needs no model's tokenizer."""

_FRAME_TOKENS = 16
_LONGEST_TITLE = 200
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
"""Readers of the document do not see it either."""

_CONTROL = re.compile(r"<(?=[|｜]|/?[A-Za-z_]{1,30}>)|\[(?=/?[A-Z_]{2,20}\])")
"""What begins a token that some model takes for the end of a message: <|im_start|>, </s>, <tool_call>, [INST]."""

_MARK = re.compile(r"(?<!\w)\[(\d{1,3})\]")
"""A footnote in a text; in an answer it would be taken for one of our marks."""


@dataclass(frozen=True)
class Passage:
    """A hit as the model gets it. seen: so many characters of the hit's text are in it, from its beginning."""

    hit: int
    title: str
    text: str
    seen: int

    @property
    def number(self) -> int:
        """What it is called towards the model: hits are numbered from 1."""
        return self.hit + 1


def estimated_tokens(text: str) -> int:
    """About how many tokens a model makes of the text; rather too many than too few."""
    return -(-len(text.encode(errors="replace")) // _BYTES_PER_TOKEN)


def passages(hits: Sequence[Hit], most_tokens: int) -> list[Passage]:
    """The first hits that fit into the budget, in order; the first that does not is cut behind a sentence.

    Blank ones are left out. Of a first hit that begins with an overlong sentence as much as fits is taken.
    """
    found: list[Passage] = []
    left = most_tokens
    for number, hit in enumerate(hits):
        title = " ".join(as_data(hit.title or hit.document_id).split())[:_LONGEST_TITLE]
        left -= _FRAME_TOKENS + estimated_tokens(title)
        seen = _fitting(hit.text, left, cut_anywhere=not found)
        text = as_data(hit.text[:seen])
        if text.strip():
            found.append(Passage(number, title, text, seen))
            left -= estimated_tokens(text)
        if seen < len(hit.text) or left <= 0:
            break
    return found


def as_data(text: str) -> str:
    """The text without what people do not see, and without what could be taken for a message's end or for a mark."""
    return _MARK.sub(r"(\1)", _CONTROL.sub(r"\g<0> ", _COMMENT.sub("", without_unseen(text))))


def framed(given: Sequence[Passage]) -> str:
    """One JSON object on each line; a text cannot leave its line, for JSON has no raw line feed and no raw quote."""
    return "\n".join(
        json.dumps({"document": one.number, "title": one.title, "text": one.text}, ensure_ascii=False) for one in given
    )


def _fitting(text: str, most_tokens: int, *, cut_anywhere: bool) -> int:
    """So many of the text's first characters fit."""
    if estimated_tokens(as_data(text)) <= most_tokens:
        return len(text)
    end = 0
    for sentence in sentences(text):
        if estimated_tokens(as_data(text[: sentence.end])) > most_tokens:
            break
        end = sentence.end
    if end or not cut_anywhere:
        return end
    end = len(text)
    while end and estimated_tokens(as_data(text[:end])) > most_tokens:
        end = end * 9 // 10
    return end
