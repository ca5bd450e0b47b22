"""`python -m tests.simulation`: so many histories, from a seed on, on so many cores; stops at the first finding.

Before this: `histories.py`. A finding is printed with its seed and its shortened history; exit code 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Iterator

from tests.simulation.histories import Totals, drawn, quiet, shortened, told
from tests.simulation.parts import part

_PART = 200


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--histories", type=int, default=100_000, help="how many (default 100000)")
    parser.add_argument("--seed", type=int, default=0, help="the first history's seed (default 0)")
    parser.add_argument("--workers", type=int, default=1, help="processes side by side (default 1)")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so long (default: never)")
    parser.add_argument("--as-found", action="store_true", help="do not shorten what is found")
    given = parser.parse_args()
    if given.histories < 1 or given.workers < 1:
        parser.error("--histories and --workers are at least 1")
    quiet()
    began, totals = time.monotonic(), Totals()
    for some, found in _parts(given.seed, given.seed + given.histories, given.workers):
        totals.add_all(some)
        if found is not None:
            print(f"\nseed {found[0]}: {found[1]}")
            if not given.as_found:
                _explain(found[0])
            return 1
        taken = time.monotonic() - began
        rate = 60 * totals.histories / taken
        print(f"\r{totals.histories} of {given.histories} histories, {rate:.0f} a minute", end="", flush=True)
        if given.seconds and taken > given.seconds:
            break
    print(f"\nno finding in {totals.histories} histories from seed {given.seed} on: {totals.counts}")
    return 0


def _explain(seed: int) -> None:
    history, finding = shortened(drawn(seed))
    print(f"{finding or 'not found again when run alone: the history is not a function of its seed'}\n{told(history)}")


def _parts(first: int, end: int, workers: int) -> Iterator[tuple[Totals, tuple[int, str] | None]]:
    """Totals of each part of the seeds, and the first finding in it."""
    ranges = [(at, min(at + _PART, end)) for at in range(first, end, _PART)]
    if workers == 1:
        yield from map(part, ranges)
        return
    with multiprocessing.get_context("spawn").Pool(workers, quiet) as pool:
        yield from pool.imap_unordered(part, ranges)


if __name__ == "__main__":
    sys.exit(main())
