"""Hits to answer from, and what must hold for any answer."""

from __future__ import annotations

from collections.abc import Sequence

from query_api.answering.answers import Answer
from query_api.retrieval.visibility import Hit


def hit(text: str, start: int = 0, document: str = "d", title: str | None = None) -> Hit:
    """A hit of a document in which its text begins at `start`."""
    return Hit(
        document_id=document,
        knowledge_base="kb",
        chunk_id=f"c-{document}-{start}",
        text=text,
        title=title,
        score=1.0,
        start=start,
        end=start + len(text),
        heading=(),
        page=None,
        metadata={},
        source="s",
        version="v",
        parts={},
    )


LEAVE = hit("Our policy is generous. Parental leave lasts forty weeks for everyone. Ask the office.", 100, "leave")
FOOD = hit("The canteen opens at noon.\n\n- Soup is served daily\n- Bread costs 2.50 euro", 7, "food")


def check(answer: Answer, hits: Sequence[Hit]) -> None:
    """Every quote stands where it says, and supports a stretch of the answer."""
    for citation in answer.citations:
        cited = hits[citation.hit]
        assert cited.text[citation.start - cited.start : citation.end - cited.start] == citation.quote
        assert 0 <= citation.answer_start <= citation.answer_end <= len(answer.text)
