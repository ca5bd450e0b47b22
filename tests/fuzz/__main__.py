"""`python -m tests.fuzz TARGET [--runs N] [--seed N]`: look for inputs that break a target, until one does.

Exit status: 0 none was found in so many runs, else libFuzzer's own; the input is written to `crash-*`, `timeout-*` or
`oom-*` in the current folder. An input of 4 KiB that takes longer than `--timeout` seconds is a finding, too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["streams", "schemas", "query_api", "runtime", "tests.fuzz"]):
    from tests.fuzz.targets import SEEDS, TARGETS

LONGEST = 4096
"""Bytes of an input."""


def main() -> None:
    """Fuzz one target; ends the process."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--runs", type=int, default=-1, help="-1: until something is found")
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--timeout", type=int, default=1, help="seconds of one input (default %(default)s)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thalweg-fuzz-") as folder:
        for number, seed in enumerate(SEEDS[asked.target]):
            Path(folder, str(number)).write_bytes(seed)
        options = [
            f"-runs={asked.runs}",
            f"-seed={asked.seed}",
            f"-timeout={asked.timeout}",
            f"-max_len={LONGEST}",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *options, folder], TARGETS[asked.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
