"""Places where a test may kill the process, named after the step of the commit that was just done.

Off unless THALWEG_TEST_FAILPOINT names one (`after_chunks`, or `after_chunks:3` for the third time it is reached).
"""

from __future__ import annotations

import os
from collections import Counter

_reached: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Die here, as `kill -9` would, if the environment says so."""
    wanted, _, count = os.environ.get("THALWEG_TEST_FAILPOINT", "").partition(":")
    if wanted == name:
        _reached[name] += 1
        if _reached[name] == int(count or 1):
            os._exit(137)
