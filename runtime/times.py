"""Moments as people write them on a command line. Before this: an option's text. After this: milliseconds."""

from __future__ import annotations

import re
from datetime import datetime

_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_since(text: str, now_ms: int) -> int:
    """`30m`, `12h`, `7d` before now, or an ISO 8601 time (local, if it names no zone), as milliseconds since 1970.

    Raises ValueError that says what is allowed.
    """
    if found := re.fullmatch(r"(\d+)([smhd])", text.strip()):
        return now_ms - int(found[1]) * _UNITS[found[2]]
    try:
        return int(datetime.fromisoformat(text.strip()).timestamp() * 1000)
    except ValueError:
        raise ValueError(f"{text!r}: write 30m, 12h, 7d, or a time such as 2026-05-04T10:00:00+00:00") from None
