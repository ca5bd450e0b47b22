"""How many hits may come from one place, so that a long document or a loud source does not fill an answer. Pure.

Before it: `visibility.py`, which says what counts. After it: `search.py`, which looks further for what is left out.
A cap on sources is also what limits poisoning: who can write to one source alone, however much and however well made
for a question, has at most so many of its hits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from query_api.retrieval.visibility import Hit


@dataclass(frozen=True)
class Caps:
    """At most so many hits of one document, and of one source; 0: any number. distinct: each text once."""

    per_document: int = 0
    per_source: int = 0
    distinct: bool = False


def capped(hits: Sequence[Hit], caps: Caps) -> list[Hit]:
    """The first hits that the caps let through, in order. A document's text comes once, however often it holds it."""
    kept: list[Hit] = []
    texts: set[tuple[str, ...]] = set()
    documents: Counter[tuple[str, str]] = Counter()
    sources: Counter[str] = Counter()
    for hit in hits:
        document, text = (hit.knowledge_base, hit.document_id), " ".join(hit.text.split())
        said = (text,) if caps.distinct else (*document, text)
        if said in texts:
            continue
        if _full(documents[document], caps.per_document) or _full(sources[hit.source], caps.per_source):
            continue
        texts.add(said)
        documents[document] += 1
        sources[hit.source] += 1
        kept.append(hit)
    return kept


def _full(count: int, most: int) -> bool:
    return 0 < most <= count
