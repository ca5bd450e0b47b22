"""Knowledge bases without a policy, for steps whose test is about something else."""

from __future__ import annotations

from streams.steps.protection import Protect


def unprotected() -> Protect:
    """Every change stays as it is."""
    return lambda change: change
