"""`make bench`: freshness, throughput and warm start of the real local stack, in numbers.

Before: `make setup`. After: exit code 0 if freshness is as promised and nothing was lost, else 1.

A stack that runs already is measured as it is, and not restarted unless asked; else one is started in a home of its
own, and deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from deploy.demo.client import Client
from deploy.local import stack
from deploy.local.state import Phase
from runtime.directory import read_demo_key
from runtime.settings import load_settings
from tests.bench import freshness, lanes, throughput


def main() -> int:
    """Measure, print, judge."""
    asked = _arguments()

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with _running(tell) as (running, own):
        if asked.lanes:
            found = _lanes(running, asked, tell)
            print(json.dumps(found, indent=2))
            return 0 if all(found[kind]["good"] for kind in ("publish", "snapshot") if kind in found) else 1
        found = _measure(running, asked, tell)
        if own or asked.restart:
            tell("restarting: down, then up")
            found["restart"] = _restart(running)
    good = found["freshness"]["good"] and not found["throughput"]["missing"]
    print(json.dumps(found, indent=2) if asked.json else _table(found))
    return 0 if good else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--updates", type=int, default=200, help="row updates (default %(default)s)")
    parser.add_argument("--rate", type=float, default=5.0, help="updates per second (default %(default)s)")
    parser.add_argument("--documents", type=int, default=300, help="documents published at once (default %(default)s)")
    parser.add_argument("--restart", action="store_true", help="also stop and start a stack that ran before")
    parser.add_argument("--lanes", action="store_true", help="live edits beside bulk loads, and nothing else")
    parser.add_argument("--load", type=int, default=10_000, help="documents of a bulk load (default %(default)s)")
    parser.add_argument("--kinds", default="publish,snapshot,large", help="which loads (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args()


@contextmanager
def _running(tell: Callable[[str], None]) -> Iterator[tuple[stack.Stack, bool]]:
    """The stack, and whether it is the benchmark's own."""
    here = stack.open_stack()
    if here.running() and here.state()["phase"] == Phase.READY:
        tell(f"measuring the stack in {here.home.root}")
        yield here, False
        return
    home = here.home.root.with_name(f"{here.home.root.name}-bench")
    tell(f"starting a stack of its own in {home}")
    began = time.monotonic()
    own = stack.start(home, apps=True, usual_ports=False)
    tell(f"ready after {time.monotonic() - began:.0f} s")
    try:
        yield own, True
    finally:
        own.stop()
        own.delete_data()


def _measure(running: stack.Stack, asked: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    state = running.state()
    settings = load_settings({**os.environ, **running.environment()})
    key = read_demo_key(Path(state["demo_key_file"]))

    def client() -> Client:
        return Client(state["apis"]["query"], key, freshness.BASE)

    tell(f"freshness: {asked.updates} updates, {asked.rate:g} a second")
    with freshness.source(state["servers"]["postgres"]["dsn"], running.environment()) as session:
        fresh = freshness.measure(session, client, updates=asked.updates, per_second=asked.rate, tell=tell)
    tell(f"throughput: {asked.documents} documents at once")
    through = throughput.measure(settings, documents=asked.documents, tell=tell)
    return {"freshness": {**asdict(fresh), "good": fresh.good}, "throughput": asdict(through)}


def _lanes(running: stack.Stack, asked: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    state = running.state()
    settings = load_settings({**os.environ, **running.environment()})
    key = read_demo_key(Path(state["demo_key_file"]))
    return lanes.measure(
        running,
        settings,
        lambda: Client(state["apis"]["query"], key, freshness.BASE),
        documents=asked.load,
        edits=asked.updates,
        tell=tell,
        kinds=tuple(asked.kinds.split(",")),
    )


def _restart(running: stack.Stack) -> dict[str, float]:
    """Seconds of `down`, and of `up` with data and parts in place."""
    began = time.monotonic()
    running.stop()
    stopped = time.monotonic()
    stack.start(running.home.root, apps=True)
    return {"down": round(stopped - began, 1), "up": round(time.monotonic() - stopped, 1)}


def _table(found: dict[str, Any]) -> str:
    fresh, through = found["freshness"], found["throughput"]
    verdict = "kept" if fresh["good"] else "NOT KEPT"
    lines = [
        f"freshness   {fresh['count']} updates, missing {fresh['missing']}",
        f"            p50 {fresh['p50']:.3f} s, p95 {fresh['p95']:.3f} s, max {fresh['max']:.3f} s",
        f"            promised p50 < {freshness.P50_S:g} s, p95 < {freshness.P95_S:g} s, none missing: {verdict}",
        f"throughput  {through['documents']} documents, {through['chunks']} chunks, missing {through['missing']}",
        f"            {through['documents_per_second']} documents/s, {through['chunks_per_second']} chunks/s",
    ]
    if restart := found.get("restart"):
        lines.append(f"restart     down {restart['down']} s, up {restart['up']} s")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
