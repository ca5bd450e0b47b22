"""Headers of a record, as Kafka has them: a name may stand several times, and the last one counts."""

from __future__ import annotations

from collections.abc import Sequence

Headers = Sequence[tuple[str, bytes | None]]


def last_header(headers: Headers, name: str) -> str | None:
    """The last header of this name, as text; None if there is none."""
    for key, value in reversed(headers):
        if key == name:
            return (value or b"").decode("utf-8", "replace")
    return None
