"""The wall clock, in the unit that records use. Before it: nothing; after it: mains, which pass it on."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Now, in milliseconds since 1970. Passed in wherever logic depends on time."""
    return int(time.time() * 1000)
