"""Under which name an answer is kept: everything that decides it, and that whoever gets it may read. Pure.

Before it: what a search found for a caller. After it: `cache.py`. Retrieval always runs first, so that an edit,
a deletion, a better chunk or a revoke is another list of hits, and therefore another name: nothing is ever invalidated.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import fields

from query_api.retrieval.rights import Rights
from query_api.retrieval.visibility import Hit

_FORM = 1
"""Of the name and of what is kept under it. A program that writes either otherwise has another number."""

SHOWN_TO_NOBODY = frozenset({"score", "parts", "place", "spans"})
"""Fields of a hit that no model sees and no citation holds. Scores change with every write to the index; where else the
document was cut, its version says.

All other fields are part of the name, also those that will be added to Hit: forgotten here, one costs repetitions, and
never an answer that is wrong.
"""


def answer_key(rights: Rights, question: str, hits: Sequence[Hit], identity: str) -> str:
    """A digest (64 hex digits) of question, hits in their order, the caller's rights and the answerer's identity.

    Questions that differ in white space alone are the same.
    """
    named = [
        _FORM,
        identity,
        " ".join(question.split()),
        rights.tenant,
        sorted(rights.bases.items()),
        None if rights.readers is None else sorted(rights.readers),
        [[getattr(hit, name) for name in _KEPT] for hit in hits],
    ]
    # ASCII: a lone surrogate in a text has no UTF-8.
    written = json.dumps(named, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(written.encode()).hexdigest()


_KEPT = tuple(sorted(field.name for field in fields(Hit) if field.name not in SHOWN_TO_NOBODY))


def _plain(value: object) -> object:
    """What JSON has no form for: other mappings and sets than its own, and records."""
    match value:
        case frozenset() | set():
            return sorted(value, key=repr)
        case _ if hasattr(value, "__dataclass_fields__"):
            return {field.name: getattr(value, field.name) for field in fields(value)}  # type: ignore[arg-type]  # one
        case _ if hasattr(value, "items"):
            return dict(value.items())
        case _:
            raise TypeError(f"{type(value).__name__} has no place in the name of an answer")
