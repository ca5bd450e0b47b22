"""What a running stack says of itself: lag, rate, generation and freshness, asked of its own processes.

Before: the stack's state tells where each process serves its metrics. After: `thalweg status` and `thalweg up`.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable
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

    ended: changes by stage. depth: records that wait, by stage. budget: dead letters it may still write, by stage.
    """

    at: float
    ended: dict[str, float] = field(default_factory=dict)
    depth: dict[str, float] = field(default_factory=dict)
    budget: dict[str, float] = field(default_factory=dict)


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
            elif sample.name == "thalweg_dead_letter_budget":
                found.budget[sample.labels["stage"]] = sample.value
    return found


def rate(before: Iterable[Scrape | None], after: Iterable[Scrape | None], stage: str) -> float | None:
    """Changes per second that a stage ended between two rounds over its workers; None if none answered twice."""
    rates = []
    for first, second in zip(before, after, strict=True):
        if first is not None and second is not None and second.at > first.at:
            grown = second.ended.get(stage, 0) - first.ended.get(stage, 0)
            # A worker that was started anew counts from nothing.
            rates.append(max(0.0, grown) / (second.at - first.at))
    return round(sum(rates), 2) if rates else None


def _least(pages: Iterable[Scrape | None], stage: str) -> int | None:
    """The budget of the worker that has the least left; None if none says."""
    told = [page.budget[stage] for page in pages if page is not None and stage in page.budget]
    return int(min(told)) if told else None


async def _measure(state: StackState, key: str) -> Measured:
    workers = [(record["stage"], record["metrics"]) for record in state["processes"].values() if record.get("stage")]
    exporter = state["processes"].get("lag-exporter", {}).get("metrics")
    # Everything asked is plain HTTP on this machine: no proxy stands between, and reading the certificates of the
    # world's authorities would take longer than all answers together.
    untrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with httpx.AsyncClient(timeout=GET_S, trust_env=False, verify=untrusting) as client:
        lag, told, before = await asyncio.gather(
            _scrape(client, exporter), _told(client, state["apis"].get("query"), key), _scrapes(client, workers)
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
            dead_letter_budget=_least([after[at] for at in mine], name),
        )
    return Measured(stages=stages, generation=told.generation, freshness={"p50": told.p50, "p95": told.p95})


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


@dataclass(frozen=True)
class _Told:
    """What the query API says: the live generation, and freshness over its last five minutes, in seconds."""

    generation: str | None = None
    p50: float | None = None
    p95: float | None = None


async def _told(client: httpx.AsyncClient, url: str | None, key: str) -> _Told:
    if url is None:
        return _Told()
    try:
        async with asyncio.timeout(GET_S):
            answered = await client.get(f"{url}/v1/stats", headers={"Authorization": f"Bearer {key}"})
        if not answered.is_success:
            return _Told()
        stats = answered.json()
        return _Told(str(stats["generation"]), stats["freshness"]["p50"], stats["freshness"]["p95"])
    except (httpx.HTTPError, TimeoutError, ValueError, KeyError):
        return _Told()


up = make_up(measure)
status = make_status(measure)
