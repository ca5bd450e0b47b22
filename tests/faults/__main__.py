"""`make faults`: the whole matrix on one machine, one fault after the other, and a table of what came of it.

    python -m tests.faults [--only 12,13] [--tier 1] [--seed N] [--times 10] [--json]

Exit status: 0 every fault did bite and nothing was lost, doubled or stale; 1 there are findings; 2 no stack.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product as product_of_all
from pathlib import Path

from deploy.local.errors import LocalStackError
from tests.faults.driver import run
from tests.faults.fault import HEADER, Fault, Row
from tests.faults.matrix import FAULTS, TIER_1, numbered
from tests.faults.world import Worlds
from tests.support.counted import counted_stack
from tests.support.product import product_of
from tests.support.quiesce import Receipts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=main.__doc__)
    parser.add_argument("--only", help="numbers of faults, with commas between")
    parser.add_argument("--tier", type=int, choices=(1, 2), help="1: those of make test")
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--times", type=int, default=1, help="each time with another seed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.only:
        chosen = numbered([int(number) for number in options.only.split(",")])
    else:
        chosen = list(TIER_1 if options.tier == 1 else FAULTS)
    seed = options.seed or random.randrange(1, 2**31)
    say(f"seed {seed}: python -m tests.faults --seed {seed}" + (f" --only {options.only}" if options.only else ""))
    try:
        rows = take(chosen, seed, options.times)
    except LocalStackError as error:
        say(f"{error}")
        return 2
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print("\n".join([HEADER, *(row.line() for row in rows)]))
    return 1 if any(row.findings for row in rows) else 0


def take(chosen: Sequence[Fault], seed: int, times: int) -> list[Row]:
    """Run these faults `times` times on one stack, told about as they end. After findings the source is a new one."""
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="thalweg-faults-") as folder,
        counted_stack(Path(folder)) as counted,
        product_of(counted.stack) as product,
        Receipts(product) as receipts,
        Worlds(counted, product, receipts, seed) as worlds,
    ):
        for turn, fault in product_of_all(range(times), chosen):
            row = run(fault, worlds.now(), seed + turn)
            rows.append(row)
            say(f"{time.strftime('%H:%M:%S')} {row.line()} {row.how}")
            say(row.story())
            if row.findings:
                worlds.drop()
    return rows


def say(text: str) -> None:
    """To people; the table alone goes to the standard output."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
