"""What a running stack says of itself: lag, rate, generation and freshness, asked of its own processes.

Before: the stack's state tells where each process serves its metrics. After: `thalweg status` and `thalweg up`.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.commands import make_status, make_up
from deploy.local.state import StackState
from deploy.local.status_report import Measured, StageMeasured

GET_S = 1.2
BETWEEN_S = 0.7
"""Two rounds of questions, each all at once, and the time between them: 3.1 s at worst, whatever is down."""


@dataclass
class Scrape:
    """What one `/metrics` page says, as far as it matters here.

    ended: changes by stage. depth: records that wait, by stage. buckets: freshness, changes by upper bound in seconds,
    cumulative as Prometheus counts them, all sources together.
    """

    at: float
    ended: dict[str, float] = field(default_factory=dict)
    depth: dict[str, float] = field(default_factory=dict)
    buckets: dict[float, float] = field(default_factory=dict)


def measure(state: StackState) -> Measured:
    """As `status_report.Measure`: never raises, never takes over 4 s; what does not answer is None."""
    try:
        key = Path(state["demo_key_file"]).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        key = ""
    return asyncio.run(_measure(state, key))


def read_page(text: str, at: float) -> Scrape:
    """A `/metrics` page. at: monotonic seconds. Raises ValueError for text that is none."""
    found = Scrape(at)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "thalweg_documents_total":
                stage = sample.labels["stage"]
                found.ended[stage] = found.ended.get(stage, 0) + sample.value
            elif sample.name == "thalweg_queue_depth":
                found.depth[sample.labels["stage"]] = sample.value
            elif sample.name == "thalweg_freshness_seconds_bucket":
                bound = float(sample.labels["le"])
                found.buckets[bound] = found.buckets.get(bound, 0) + sample.value
    return found


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """The value below which `share` of the observations lie, in the buckets' unit; None without observations.

    Linear within a bucket, as Prometheus' histogram_quantile does it; in the last, open bucket its lower bound.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0
    if total <= 0:
        return None
    rank, lower, below = share * total, 0.0, 0.0
    for bound in bounds:
        count = buckets[bound]
        if count >= rank and count > below:
            return lower if math.isinf(bound) else lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower


def rate(before: Iterable[Scrape | None], after: Iterable[Scrape | None], stage: str) -> float | None:
    """Changes per second that a stage ended between two rounds over its workers; None if none answered twice."""
    rates = []
    for first, second in zip(before, after, strict=True):
        if first is not None and second is not None and second.at > first.at:
            grown = second.ended.get(stage, 0) - first.ended.get(stage, 0)
            # A worker that was started anew counts from nothing.
            rates.append(max(0.0, grown) / (second.at - first.at))
    return round(sum(rates), 2) if rates else None


async def _measure(state: StackState, key: str) -> Measured:
    workers = [(record["stage"], record["metrics"]) for record in state["processes"].values() if record.get("stage")]
    exporter = state["processes"].get("lag-exporter", {}).get("metrics")
    # Everything asked is plain HTTP on this machine: no proxy stands between, and reading the certificates of the
    # world's authorities would take longer than all answers together.
    untrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with httpx.AsyncClient(timeout=GET_S, trust_env=False, verify=untrusting) as client:
        lag, generation, before = await asyncio.gather(
            _scrape(client, exporter), _generation(client, state["apis"].get("query"), key), _scrapes(client, workers)
        )
        await asyncio.sleep(BETWEEN_S)
        after = await _scrapes(client, workers)
    stages = {}
    for name in dict.fromkeys(stage for stage, _ in workers):
        mine = [at for at, (stage, _) in enumerate(workers) if stage == name]
        depth = None if lag is None else lag.depth.get(name)
        stages[name] = StageMeasured(
            lag=None if depth is None else int(depth),
            rate=rate([before[at] for at in mine], [after[at] for at in mine], name),
        )
    buckets = _sum(scrape.buckets for scrape in after if scrape is not None)
    freshness = {name: _rounded(quantile(buckets, share)) for name, share in (("p50", 0.5), ("p95", 0.95))}
    return Measured(stages=stages, generation=generation, freshness=freshness)


async def _scrapes(client: httpx.AsyncClient, workers: Iterable[tuple[str, str]]) -> list[Scrape | None]:
    return await asyncio.gather(*(_scrape(client, url) for _, url in workers))


async def _scrape(client: httpx.AsyncClient, url: str | None) -> Scrape | None:
    """The page there, None if nothing (or nonsense) comes back in time."""
    if url is None:
        return None
    try:
        async with asyncio.timeout(GET_S):
            answered = await client.get(url)
        return read_page(answered.text, time.monotonic()) if answered.is_success else None
    except (httpx.HTTPError, TimeoutError, ValueError, KeyError):
        return None


async def _generation(client: httpx.AsyncClient, url: str | None, key: str) -> str | None:
    """The live generation's name, as the query API says."""
    if url is None:
        return None
    try:
        async with asyncio.timeout(GET_S):
            answered = await client.get(f"{url}/v1/stats", headers={"Authorization": f"Bearer {key}"})
        return str(answered.json()["generation"]) if answered.is_success else None
    except (httpx.HTTPError, TimeoutError, ValueError, KeyError):
        return None


def _sum(pages: Iterable[Mapping[float, float]]) -> dict[float, float]:
    total: dict[float, float] = {}
    for page in pages:
        for bound, count in page.items():
            total[bound] = total.get(bound, 0) + count
    return total


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


up = make_up(measure)
status = make_status(measure)
