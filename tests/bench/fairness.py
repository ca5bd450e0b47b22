"""Fairness: what a tenant's searches take alone, and beside another tenant that asks a hundred times as much.

`python -m tests.bench.fairness --quiet-key KEY --loud-key KEY` against a running stack; the keys are of two tenants,
and each may read something. Rates cut the loud one first: to see what turns alone are worth, start the query API with
`THALWEG_LIMITS__PER_KEY=0` and `THALWEG_LIMITS__PER_TENANT=0`. Before: that stack. After: a line of JSON; exit code 1
if the p95 beside the loud tenant is more than twice that alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass

import httpx

RATIO = 2.0
FACTOR = 100
_MOST_OPEN = 200
"""Requests of the loud tenant under way at once: beyond them it is the measuring machine that is measured."""


@dataclass(frozen=True)
class Fairness:
    """Seconds, p95 of the quiet tenant; loud counts the loud one's answers by status."""

    alone: float
    beside: float
    ratio: float
    quiet: int
    failed: int
    loud: dict[str, int]

    @property
    def good(self) -> bool:
        """Nothing of the quiet tenant failed, and it hardly waited."""
        return not self.failed and self.ratio <= RATIO and sum(self.loud.values()) > self.quiet


class Tenant:
    """Asks at a steady pace, whether answers come or not."""

    def __init__(self, url: str, key: str, *, most_open: int) -> None:
        limits = httpx.Limits(max_connections=most_open)
        self._http = httpx.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30, limits=limits, trust_env=False
        )
        self._most_open = most_open
        self.took: list[float] = []
        self.statuses: Counter[str] = Counter()

    async def ask(self, per_s: float, seconds: float) -> None:
        """Ask for so long; returns when every answer is there."""
        open_now: set[asyncio.Task[None]] = set()
        started, number = time.monotonic(), 0
        while (due := number / per_s) < seconds:
            await asyncio.sleep(max(0.0, started + due - time.monotonic()))
            number += 1
            if len(open_now) < self._most_open:
                task = asyncio.create_task(self._one(number))
                open_now.add(task)
                task.add_done_callback(open_now.discard)
        await asyncio.gather(*open_now)

    async def _one(self, number: int) -> None:
        began = time.monotonic()
        body = {"query": f"what is said about number {number}?"}  # no vector is kept for it
        try:
            answered = await self._http.post("/v1/search", json=body)
        except httpx.HTTPError as error:
            self.statuses[type(error).__name__] += 1
            return
        self.statuses[str(answered.status_code)] += 1
        self.took.append(time.monotonic() - began)


async def measure(url: str, quiet_key: str, loud_key: str, *, per_s: float, seconds: float) -> Fairness:
    """Both runs, one after the other. per_s: of the quiet tenant."""
    alone = Tenant(url, quiet_key, most_open=50)
    await alone.ask(per_s, seconds)
    beside, loud = Tenant(url, quiet_key, most_open=50), Tenant(url, loud_key, most_open=_MOST_OPEN)
    await asyncio.gather(beside.ask(per_s, seconds), loud.ask(per_s * FACTOR, seconds))
    first, second = p95(alone.took), p95(beside.took)
    asked = alone.statuses + beside.statuses
    return Fairness(first, second, second / first, asked.total(), asked.total() - asked["200"], dict(loud.statuses))


def p95(took: list[float]) -> float:
    """The 95th percentile; fails where nothing was measured."""
    return sorted(took)[int(len(took) * 0.95)]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--quiet-key", required=True)
    parser.add_argument("--loud-key", required=True)
    parser.add_argument("--per-second", type=float, default=1.5, help="of the quiet tenant, within its own rate")
    parser.add_argument("--seconds", type=float, default=40)
    given = parser.parse_args()
    found = asyncio.run(
        measure(given.url, given.quiet_key, given.loud_key, per_s=given.per_second, seconds=given.seconds)
    )
    json.dump({**asdict(found), "good": found.good}, sys.stdout)
    print()
    return 0 if found.good else 1


if __name__ == "__main__":
    sys.exit(main())
