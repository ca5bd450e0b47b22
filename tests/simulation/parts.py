"""A stretch of histories, as one of several processes runs it: what is handed to another process must be importable.

Before this: `__main__.py` deals the seeds out. After this: `histories.py` draws each history.
"""

from __future__ import annotations

from tests.simulation.histories import Finding, Totals, drawn, run


def part(seeds: tuple[int, int]) -> tuple[Totals, tuple[int, str] | None]:
    """Totals of these seeds, [first, end), and the first finding with its seed."""
    totals = Totals()
    for seed in range(*seeds):
        try:
            run(drawn(seed), totals)
        except Finding as finding:
            return totals, (seed, str(finding))
    return totals, None
