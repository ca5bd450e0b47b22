"""What `thalweg status` says: the stack's state and what was measured of it, as JSON or as a table.

Before: `state` and a measuring function of the command package. After: scripts (the JSON's shape is a promise) and
people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NotRequired, TypedDict
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from deploy.local.apps import APPS
from deploy.local.state import StackState


class StageMeasured(TypedDict):
    """lag: records not yet done. rate: records per second, over the last while. None: not known.

    dead_letter_budget: records that the stage's workers may still park now; at 0 one stands still.
    """

    lag: int | None
    rate: float | None
    dead_letter_budget: NotRequired[int | None]


class Measured(TypedDict):
    """What only the product's own code can tell. freshness: seconds from source commit to searchable."""

    stages: Mapping[str, StageMeasured]
    generation: str | None
    freshness: Mapping[str, float | None]


Measure = Callable[[StackState], Measured]
"""Asks a running stack; must not raise, what cannot be asked is None; must not take over a few seconds."""


def nothing_measured(_state: StackState) -> Measured:
    """Before the product's own code can be asked."""
    return Measured(stages={}, generation=None, freshness={"p50": None, "p95": None})


def report(state: StackState, measured: Measured) -> dict[str, Any]:
    """`thalweg status --json`."""
    processes = state["processes"]
    stages = {}
    for app in APPS:
        if app.stage is None:
            continue
        workers = [record for record in processes.values() if record.get("stage") == app.stage]
        found = measured["stages"].get(app.stage, StageMeasured(lag=None, rate=None))
        stages[app.stage] = {
            "lag": found["lag"],
            "rate": found["rate"],
            "dead_letter_budget": found.get("dead_letter_budget"),
            "workers": [worker["pid"] for worker in workers if worker["pid"]],
            "metrics": [worker["metrics"] for worker in workers],
        }
    return {
        "home": state["home"],
        "phase": state["phase"],
        "supervisor": state["supervisor"],
        "servers": state["servers"],
        "apis": state["apis"],
        "stages": stages,
        "processes": processes,
        "steps": state["steps"],
        "generation": measured["generation"],
        "freshness": {"p50": measured["freshness"].get("p50"), "p95": measured["freshness"].get("p95")},
        "demo_key_file": state["demo_key_file"],
        "weaviate_api_key_file": state["weaviate_api_key_file"],
    }


def show(found: Mapping[str, Any], console: Console) -> None:
    """The same for people."""
    table = Table(title=f"Thalweg in {found['home']}: {found['phase']}", title_justify="left")
    for column in ("name", "state", "pid", "restarts", "address"):
        table.add_column(column, overflow="fold", justify="right" if column in {"pid", "restarts"} else "left")
    for name, record in {**found["servers"], **found["processes"]}.items():
        state = record["state"] + (f": {record['reason']}" if record.get("reason") else "")
        table.add_row(
            name, state, str(record["pid"] or ""), str(record.get("restarts", "")), ", ".join(addresses(record))
        )
    console.print(table)
    if not found["processes"]:
        return
    stages = Table(title_justify="left")
    for column in ("stage", "lag", "per second", "workers"):
        stages.add_column(column, justify="left" if column == "stage" else "right")
    for name, stage in found["stages"].items():
        stages.add_row(name, _known(stage["lag"]), _known(stage["rate"]), str(len(stage["workers"])))
    console.print(stages)
    for name, stage in found["stages"].items():
        if stage["dead_letter_budget"] == 0:
            console.print(f"[red]{name} stands still: it may park no more dead letters; thalweg dlq list[/]")
    fresh = found["freshness"]
    console.print(
        f"generation {_known(found['generation'])}; freshness p50 {_known(fresh['p50'], ' s')}, "
        f"p95 {_known(fresh['p95'], ' s')}",
        highlight=False,
    )


def addresses(record: Mapping[str, Any]) -> list[str]:
    """Where one server or process is reached, passwords left out."""
    shown = [str(record[key]) for key in ("bootstrap", "url", "grpc") if record.get(key)]
    if dsn := record.get("dsn"):
        shown.append(without_password(str(dsn)))
    return shown or [str(record[key]) for key in ("metrics",) if record.get(key)]


def without_password(dsn: str) -> str:
    """A database URL as it may be shown."""
    parts = urlsplit(dsn)
    if not parts.hostname:
        return "(set)"
    port = f":{parts.port}" if parts.port else ""
    user = f"{parts.username}@" if parts.username else ""
    return f"{parts.scheme}://{user}{parts.hostname}{port}{parts.path}"


def _known(value: object, unit: str = "") -> str:
    return "?" if value is None else f"{value:.3g}{unit}" if isinstance(value, float) else f"{value}{unit}"
