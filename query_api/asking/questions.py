"""The question as it may be asked: lengths, limits, no control characters. Pure.

Before it: `models.py` (what pydantic checks alone). After it: `service.py`.
"""

from __future__ import annotations

import unicodedata

from query_api.models import SearchRequest
from runtime.settings import QueryApi
from runtime.web.problems import FieldError, Problem

_BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
"""They turn the direction of text: in a question they only hide what is asked."""


def checked_query(request: SearchRequest, settings: QueryApi) -> str:
    """The query on one line without control characters. Raises Problem 422 that names each wrong field and its fix."""
    errors = []
    query = "".join(" " if c in "\n\r\t" else c for c in request.query if _writable(c)).strip()
    if len(request.query) > settings.max_query_length:
        long = f"is {len(request.query)} characters long"
        errors.append(FieldError("query", long, f"shorten it to at most {settings.max_query_length} characters"))
    elif not query:
        errors.append(FieldError("query", "is empty", "write what to look for"))
    if request.limit > settings.max_limit:
        errors.append(FieldError("limit", f"is {request.limit}", f"use at most {settings.max_limit}"))
    if errors:
        named = "; ".join(f"{error.field} {error.message}: {error.fix}" for error in errors)
        raise Problem("validation-failed", f"{named}.", errors=errors)
    return query


def _writable(character: str) -> bool:
    return character in "\n\r\t" or (unicodedata.category(character) != "Cc" and character not in _BIDI)
