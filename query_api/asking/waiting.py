"""`min_position`: wait until the index has come that far, or say how far behind it is.

Before it: `service.py`. After it: `freshness.py`, which knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from runtime.progress import Accepted, Progress
from runtime.web.problems import FieldError, Problem


class Waits(Protocol):
    """What is asked of the freshness reader."""

    @property
    def progress(self) -> Progress:
        """What receipts said."""
        ...

    @property
    def connected(self) -> bool:
        """True if receipts come in."""
        ...

    async def wait(self, positions: Sequence[Accepted], timeout_s: float) -> list[Accepted]:
        """Those of the positions that did not end within the timeout."""
        ...


async def wait_for(freshness: Waits, tenant: str, wanted: str | list[str], wait_ms: int) -> None:
    """Return once the index holds every position, or something newer.

    Raises Problem 422 (no position), 409 (not in time; or parked, so that it would be missed in silence), 503
    (unknowable). Why an input was parked is told to its own tenant.
    """
    try:
        positions = [Accepted.parse(text) for text in ([wanted] if isinstance(wanted, str) else wanted)]
    except ValueError as error:
        wrong = FieldError("min_position", str(error), "send the `position` that the write was answered with")
        raise Problem("validation-failed", f"min_position {error}.", errors=[wrong]) from error
    missing = await freshness.wait(positions, wait_ms / 1000)
    parked = [
        {"position": str(position), "reason": reason}
        for position in positions
        if (reason := freshness.progress.failed(tenant, position)) is not None
    ]
    if parked:
        first = parked[0]
        raise Problem(
            "write-failed",
            f"{first['position']} was not indexed: {first['reason']}. Leave it out to search without it.",
            headers={"Retry-After": "60"},
            extra={"failed": parked},
        )
    if not missing:
        return
    if not freshness.connected:
        raise Problem(
            "unavailable",
            "Kafka cannot be read just now, so nobody knows whether the index has come that far.",
            headers={"Retry-After": "2"},
        )
    behind = [_behind(freshness.progress, position) for position in missing]
    told = "; ".join(
        f"{item['position']} is not indexed yet, "
        + ("nothing of its partition is known" if item["reached"] is None else f"reached is {item['reached']}")
        for item in behind[:3]
    )
    raise Problem("not-yet-indexed", f"{told}.", headers={"Retry-After": "1"}, extra={"behind": behind})


def _behind(progress: Progress, position: Accepted) -> dict[str, object]:
    reached = progress.reached(position)
    return {
        "position": str(position),
        "reached": None if reached is None else str(Accepted(position.topic, position.partition, reached)),
        "records": None if reached is None else max(0, position.offset - reached),
    }
