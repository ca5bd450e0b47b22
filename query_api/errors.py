"""What our errors are to a caller. Before it: the ports and the answerer, which raise. After it: `app.py`, streams."""

from __future__ import annotations

from query_api.answers import AnswerUnavailable
from query_api.ports import IndexUnavailable, ModelMismatch, ModelUnavailable, NoIndex
from runtime.web.problems import Problem

KINDS: tuple[tuple[type[Exception], str, str], ...] = (
    (NoIndex, "no-index", "5"),
    (IndexUnavailable, "unavailable", "2"),
    (ModelMismatch, "model-mismatch", "30"),
    (ModelUnavailable, "unavailable", "2"),
    (AnswerUnavailable, "unavailable", "5"),
)
"""Our errors, the problem each one is, and after how many seconds to ask again."""


def problem_of(error: Exception) -> Problem | None:
    """The problem that an error is; None for one that nobody expects."""
    if isinstance(error, Problem):
        return error
    for ours, kind, again in KINDS:
        if isinstance(error, ours):
            return Problem(kind, f"{error}.", headers={"Retry-After": again})
    return None
