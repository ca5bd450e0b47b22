"""What our errors are to a caller. Before it: the ports and the answerer, which raise. After it: `app.py`, streams."""

from __future__ import annotations

import math

from query_api.answering.answers import AnswerUnavailable
from query_api.retrieval.ports import IndexUnavailable, ModelMismatch, ModelUnavailable, NoIndex, Passing
from runtime.web.problems import Problem

KINDS: tuple[tuple[type[Exception], str, int], ...] = (
    (NoIndex, "no-index", 5),
    (IndexUnavailable, "unavailable", 2),
    (ModelMismatch, "model-mismatch", 30),
    (ModelUnavailable, "unavailable", 2),
    (AnswerUnavailable, "unavailable", 5),
)
"""Our errors, the problem each one is, and after how many seconds to ask again, if nobody said it."""

LONGEST_WAIT_S = 60
"""A vendor may ask for an hour; whoever waits for us is told to look again sooner."""


def problem_of(error: Exception) -> Problem | None:
    """The problem that an error is; None for one that nobody expects."""
    if isinstance(error, Problem):
        return error
    for ours, kind, again in KINDS:
        if isinstance(error, ours):
            return Problem(kind, f"{error}.", headers={"Retry-After": str(_seconds(error, again))})
    return None


def _seconds(error: Exception, otherwise: int) -> int:
    wish = error.retry_after_s if isinstance(error, Passing) else None
    return otherwise if wish is None else min(max(math.ceil(wish), 1), LONGEST_WAIT_S)
