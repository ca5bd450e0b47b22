"""What a step says of a record: the closed vocabulary between a step and its loop.

Steps raise nothing; the loop in `adapters/runner.py` turns an outcome into an acknowledgement, a wait or a dead letter.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Done:
    """The record's effect is durable downstream. label names what became of it, for metrics."""

    label: str = "done"


PASSED_OVER = Done("other_lane")
"""The record is another consumer group's: acknowledged in its turn, and counted by nobody."""


@dataclass(frozen=True)
class Rejected:
    """This record can never be taken: park it with the reason (a short slug); detail holds no document text."""

    reason: str
    detail: str


@dataclass(frozen=True)
class Retry:
    """The same record may be taken later: after so many seconds, if the cause said so.

    limited: the cause may lie in the record itself (an error nobody foresaw), so after some tries it is parked.
    Otherwise something we stand on is away, and the record waits as long as that lasts.
    """

    cause: str
    after_s: float | None = None
    limited: bool = False


Outcome = Done | Rejected | Retry
