"""Fairness: what a tenant's searches take alone, and beside another tenant that asks a hundred times as much.

Before: a running stack. After: `__main__` prints the numbers. Two tenants of their own get documents and a key each, by
the commands that a person would use, and lose them at the end. Rates are those of the stack: they cut the loud one
first, and what they let through takes turns (`THALWEG_QUERY__AT_ONCE`).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from deploy.demo.client import percentile
from tests.bench import throughput

RATIO = 2.0
FACTOR = 100
PER_S = 1.5
"""Searches a second of the quiet tenant: within the rate of its key."""

_DOCUMENTS = 200
_MOST_OPEN = 200
"""Requests of the loud tenant under way at once: beyond them it is the measuring machine that is measured."""

_KEYS = 10
"""Of the loud tenant: with them it is its tenant's rate that cuts it, not each key's."""

_WARM = 5
_RUN_S = 60.0
_COMMAND_S = 300.0


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
        """Nothing of the quiet tenant failed, it hardly waited, and the loud one asked and was answered, too."""
        served = self.loud.get("200", 0)
        return not self.failed and self.ratio <= RATIO and served > 0 and sum(self.loud.values()) > 10 * self.quiet


class Tenant:
    """Asks at a steady pace, whether answers come or not, with its keys in turn. Close it."""

    def __init__(self, url: str, keys: Sequence[str], *, most_open: int) -> None:
        # Of the clients there are this one costs the machine least, which is the one that is measured.
        self._http = aiohttp.ClientSession(
            url, connector=aiohttp.TCPConnector(limit=most_open), timeout=aiohttp.ClientTimeout(30)
        )
        self._keys = keys
        self._most_open = most_open
        self.took: list[float] = []
        self.statuses: Counter[str] = Counter()

    async def __aenter__(self) -> Tenant:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def ask(self, per_s: float, seconds: float) -> None:
        """Ask for so long; returns when every answer is there."""
        open_now: set[asyncio.Task[None]] = set()
        started, number = time.monotonic(), 0
        while (due := number / per_s) < seconds:
            await asyncio.sleep(max(0.0, started + due - time.monotonic()))
            number += 1
            if len(open_now) < self._most_open:
                task = asyncio.create_task(self._one(self._keys[number % len(self._keys)]))
                open_now.add(task)
                task.add_done_callback(open_now.discard)
        await asyncio.gather(*open_now)

    async def _one(self, key: str) -> None:
        began = time.monotonic()
        body = {"query": f"what is said about {uuid.uuid4()}?"}  # no vector is kept for it
        try:
            async with self._http.post("/v1/search", json=body, headers={"Authorization": f"Bearer {key}"}) as answered:
                await answered.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.statuses[type(error).__name__] += 1
            return
        self.statuses[str(answered.status)] += 1
        if answered.status == HTTPStatus.OK:
            self.took.append(time.monotonic() - began)


def measure(environment: Mapping[str, str], url: str, *, tell: Callable[[str], None]) -> Fairness:
    """Both runs, one after the other. environment: the stack's settings; url: the query API's.

    Raises subprocess.CalledProcessError if a command fails.
    """
    run = f"{time.time_ns():x}"
    tell(f"fairness: two tenants of {_DOCUMENTS} documents each")
    with _tenant(environment, f"quiet-{run}", keys=1) as quiet, _tenant(environment, f"loud-{run}", keys=_KEYS) as loud:
        tell(f"fairness: {_RUN_S:g} s alone, {_RUN_S:g} s beside a tenant that asks {FACTOR} times as much")
        return asyncio.run(_measured(url, quiet, loud))


async def _measured(url: str, quiet_keys: Sequence[str], loud_keys: Sequence[str]) -> Fairness:
    async with (
        Tenant(url, quiet_keys, most_open=1) as warm,
        Tenant(url, quiet_keys, most_open=50) as alone,
        Tenant(url, quiet_keys, most_open=50) as beside,
        Tenant(url, loud_keys, most_open=_MOST_OPEN) as loud,
    ):
        await warm.ask(_WARM, 1)
        await alone.ask(PER_S, _RUN_S)
        await asyncio.gather(beside.ask(PER_S, _RUN_S), loud.ask(PER_S * FACTOR, _RUN_S))
    first, second = percentile(alone.took, 0.95), percentile(beside.took, 0.95)
    asked = alone.statuses + beside.statuses
    return Fairness(
        first, second, round(second / first, 2), asked.total(), asked.total() - asked["200"], dict(loud.statuses)
    )


@contextmanager
def _tenant(environment: Mapping[str, str], name: str, *, keys: int) -> Iterator[list[str]]:
    """A new tenant with documents; so many keys that may search them, which end with it."""
    env = {**os.environ, **environment, "THALWEG_TENANT": name}

    def thalweg(*words: str) -> str:
        command = [sys.executable, "-m", "thalweg", *words]
        return subprocess.run(
            command, env=env, check=True, stdout=subprocess.PIPE, text=True, timeout=_COMMAND_S
        ).stdout

    with TemporaryDirectory(prefix="thalweg-fairness-") as folder:
        there, gone = Path(folder, "there.jsonl"), Path(folder, "gone.jsonl")
        texts = enumerate(throughput.texts(_DOCUMENTS, name))
        there.write_text("".join(f"{json.dumps({'id': str(at), 'text': text})}\n" for at, text in texts))
        gone.write_text("".join(f"{json.dumps({'id': str(at), 'delete': True})}\n" for at in range(_DOCUMENTS)))
        thalweg("access", "bases", "create", throughput.BASE)
        thalweg("publish", str(there), "--knowledge-base", throughput.BASE)
        made = []
        try:
            for number in range(keys):
                words = ("--subject", f"bench-{number}", "--scope", "query", "--json")
                made.append(json.loads(thalweg("access", "keys", "create", *words)))
            yield [one["key"] for one in made]
        finally:
            for one in made:
                thalweg("access", "keys", "revoke", one["id"])
            thalweg("publish", str(gone), "--knowledge-base", throughput.BASE)
