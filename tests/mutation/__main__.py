"""`python -m tests.mutation [NAME ...]`: try every mutant, print who noticed it; exit code 1 if one lives or is stale.

Before this: `kill.py`. `--jobs` tries several side by side, each on a copy of its own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from tests.mutation.kill import Mutant, Tried, Unfit, attempt, copied, mutants, notice


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants to try (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="so many side by side (default 1)")
    parser.add_argument("--unmutated", action="store_true", help="first see that the tests pass as things are")
    given = parser.parse_args()
    chosen = [mutant for mutant in mutants() if not given.names or mutant.name in given.names]
    if unknown := set(given.names) - {mutant.name for mutant in mutants()}:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    began = time.monotonic()
    if given.unmutated and (broken := _unmutated(chosen)):
        print(f"the tests notice something without any mutant: {broken}")
        return 1
    shares = [chosen[at :: given.jobs] for at in range(given.jobs)]
    with ThreadPoolExecutor(given.jobs) as pool:
        failed = sum(pool.map(_try, shares))
    print(f"{len(chosen)} mutants, {failed} not noticed or not fit, {time.monotonic() - began:.0f} s")
    return 1 if failed or not chosen else 0


def _unmutated(chosen: Sequence[Mutant]) -> str:
    """What the tests say of the tree as it is: a test that is red anyway notices nothing."""
    with copied() as tree:
        wanted = dict.fromkeys(chain.from_iterable(mutant.tests for mutant in chosen))
        for tests in ((), *((test,) for test in wanted)):
            if (found := notice(tree, tests))[0]:
                return found[1]
    return ""


def _try(mutants: Sequence[Mutant]) -> int:
    """How many of these were not noticed, or could not be tried."""
    failed = 0
    with copied() as tree:
        for mutant in mutants:
            try:
                tried = attempt(mutant, tree)
            except Unfit as unfit:
                tried = Tried(mutant.name, "", f"NOT FIT: {unfit}", 0.0)
            failed += not tried.by
            said = tried.detail or f"LIVES: {mutant.harm}"
            print(f"{tried.mutant:34} {tried.by or '-':24} {tried.seconds:5.1f} s  {said[:110]}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
