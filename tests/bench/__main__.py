"""`make bench`: the real local stack, the table of calls beside the peers, and real edits, in numbers.

Before: `make setup`. After: exit code 0 if freshness is as promised, nothing was lost, and real edits cost no more than
promised, else 1.

A stack that runs already is measured as it is, and not restarted unless asked; else one is started in a home of its
own, and deleted at the end. README.md beside this says what each part takes and fetches.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.demo.client import Client
from deploy.local import stack
from deploy.local.state import Phase
from runtime.directory import read_demo_key
from runtime.embedding.local_files import locate
from runtime.settings import load_settings
from tests.bench import fairness, freshness, lanes, ranking, report, search, throughput
from tests.bench.edits import measure
from tests.bench.edits.archives import fetched, pinned
from tests.bench.edits.tokens import Tokens
from tests.bench.peers import table
from tests.bench.peers.ask import SCRIPTS, Peers, installed

PARTS = ("calls", "edits", "stack", "lanes", "search", "fairness", "quality")


def main() -> int:
    """Measure, print, judge."""
    asked = _arguments()

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    parts, console, good = asked.parts or list(PARTS), report.console(), True
    printed: dict[str, Any] = {}
    peers = installed(tell) if {"calls", "edits"} & set(parts) else None
    if "calls" in parts and peers:
        calls = table.measure(peers, tell)
        printed["calls"] = asdict(calls)
        if not asked.json:
            report.print_calls(calls, console)
    if "edits" in parts:
        history = _edits(asked, peers, tell)
        printed["edits"] = {**asdict(history), "good": history.good}
        good = good and history.good
        if not asked.json:
            report.print_edits(history, console)
    if "stack" in parts:
        stack_found, stack_good = _stack(asked, tell)
        printed |= stack_found
        good = good and stack_good
        if not asked.json:
            print(_table(stack_found))
    if "lanes" in parts:
        with _running(tell) as (running, _):
            printed["lanes"] = loads = _lanes(running, asked, tell)
        good = good and all(loads[kind]["good"] for kind in ("publish", "snapshot") if kind in loads)
        if not asked.json:
            print(json.dumps(loads, indent=2))
    if {"search", "fairness", "quality"} & set(parts):
        found, kept = _searches(asked, parts, tell, console)
        printed |= found
        good = good and kept
    if asked.json:
        print(json.dumps(printed, indent=2))
    return 0 if good else 1


def _edits(asked: argparse.Namespace, peers: Peers | None, tell: Callable[[str], None]) -> measure.Found:
    projects = asked.projects.split(",") if asked.projects else None
    releases = [release for release in pinned() if projects is None or release.project in projects]
    if peers and asked.peers:
        peers = replace(peers, scripts=tuple(name for name in asked.peers.split(",") if name in SCRIPTS))
    tokens = Tokens(locate())
    return measure.measure(releases, fetched(releases, tell), tokens, peers, tell, engines=asked.engines)


def _stack(asked: argparse.Namespace, tell: Callable[[str], None]) -> tuple[dict[str, Any], bool]:
    with _running(tell) as (running, own):
        found = _measure(running, asked, tell)
        if own or asked.restart:
            tell("restarting: down, then up")
            found["restart"] = _restart(running)
    return found, found["freshness"]["good"] and not found["throughput"]["missing"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", choices=[*PARTS, []], help=f"of {', '.join(PARTS)} (default: all)"
    )
    parser.add_argument("--peers", help="edits: scripts of peers/, comma-separated, or none (default: all)")
    parser.add_argument("--projects", help="edits: of the pinned releases only those of these, comma-separated")
    parser.add_argument("--engines", action="store_true", help="edits: run the peers' engines, not their rules (slow)")
    parser.add_argument("--updates", type=int, default=200, help="row updates (default %(default)s)")
    parser.add_argument("--rate", type=float, default=5.0, help="updates per second (default %(default)s)")
    parser.add_argument("--documents", type=int, default=300, help="documents published at once (default %(default)s)")
    parser.add_argument("--restart", action="store_true", help="also stop and start a stack that ran before")
    parser.add_argument("--load", type=int, default=10_000, help="lanes: documents of a load (default %(default)s)")
    parser.add_argument("--kinds", default="publish,snapshot,large", help="lanes: which loads (default %(default)s)")
    parser.add_argument("--searches", type=int, default=400, help="search: of each kind (default %(default)s)")
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


def _searches(
    asked: argparse.Namespace, parts: Sequence[str], tell: Callable[[str], None], console: Console
) -> tuple[dict[str, Any], bool]:
    """What searches cost, what one tenant's cost another, and what they find."""
    printed: dict[str, Any] = {}
    good = True
    if "search" in parts:
        with _running(tell) as (running, _):
            state = running.state()
            settings = load_settings({**os.environ, **running.environment()})
            key = read_demo_key(Path(state["demo_key_file"]))
            cost = search.measure(settings, state["apis"]["query"], key, searches=asked.searches, tell=tell)
        good = cost.good
        printed["search"] = {**asdict(cost), "good": good}
        if not asked.json:
            report.print_search(cost, console)
    if "fairness" in parts:
        with _running(tell) as (running, _):
            fair = fairness.measure(running.environment(), running.state()["apis"]["query"], tell=tell)
        good = good and fair.good
        printed["fairness"] = {**asdict(fair), "good": fair.good}
        if not asked.json:
            report.print_fairness(fair, console)
    if "quality" in parts:
        lines = ranking.measure(tell)
        printed["quality"] = [asdict(one) for one in lines]
        if not asked.json:
            print(ranking.table(lines))
    return printed, good


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
