"""Our own processes on top of the servers, and the steps that must be done before they start.

Before: the servers. After: the product works. Which workers there are is one list, here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local import http_probe
from deploy.local.errors import NotReadyError
from deploy.local.server import Context, Server

# Importing the parsers on a busy two-core machine.
READY_S = 180.0


@dataclass(frozen=True)
class Step:
    """A command that must succeed once per start, before our processes; it may be run any number of times.

    after: the servers it talks to; it is run as soon as these are ready, beside the start of the others.
    """

    name: str
    arguments: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class App:
    """One of our processes: `python -m thalweg ARGUMENTS`. api: it serves people on the port of this name."""

    name: str
    arguments: tuple[str, ...]
    stage: str | None = None
    api: str | None = None


STEPS = (
    Step("topics", ("topics", "apply"), after=("kafka",)),
    Step("schemas", ("schemas", "register"), after=("registry",)),
    Step("generation", ("generation", "ensure"), after=("weaviate",)),
)
APPS = (
    App("capture", ("worker", "capture"), stage="capture"),
    App("parse", ("worker", "parse"), stage="parse"),
    App("index", ("worker", "index"), stage="index"),
    App("index-bulk", ("worker", "index-bulk"), stage="index-bulk"),
    App("rebuild", ("worker", "rebuild")),
    App("upload", ("serve", "upload"), api="upload"),
    App("query", ("serve", "query"), api="query"),
    App("lag-exporter", ("lag-exporter",)),
)


def port_name(app: App) -> str:
    """The name under which the port of this process is remembered; APIs and the exporter have usual ones."""
    return app.api or (app.name if app.name == "lag-exporter" else f"{app.name}_metrics")


def command(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The command line of one of our own programs, run by the Python that runs the supervisor."""
    return (sys.executable, "-m", "thalweg", *arguments)


def environment(context: Context) -> dict[str, str]:
    """What every process of ours gets: which stack it belongs to, and where its code is."""
    return {"THALWEG_HOME": str(context.home.root), "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(code_root())}


def code_root() -> Path:
    """The folder that holds our packages: a checkout, or where they are installed."""
    return Path(__file__).resolve().parents[2]


def server(app: App, context: Context, servers: tuple[str, ...]) -> Server:
    """How one of our processes is run; `servers` must be ready before it."""
    port = context.ports[port_name(app)]
    url = f"http://127.0.0.1:{port}"
    env: Mapping[str, str]
    if app.api:
        env = {f"THALWEG_{app.api.upper()}__PORT": str(port)}
    elif app.name == "lag-exporter":
        env = {"THALWEG_LAG_EXPORTER__PORT": str(port), "THALWEG_METRICS__PORT": str(port)}
    else:
        env = {"THALWEG_METRICS__PORT": str(port)}
    address: dict[str, object] = {"metrics": f"{url}/metrics"}
    if app.stage:
        address["stage"] = app.stage
    if app.api:
        address["url"] = url
    return Server(
        name=app.name,
        command=command(app.arguments),
        env={**environment(context), **env},
        probe=lambda: probe(url),
        address=address,
        after=servers,
        folder=context.home.run,
        # A worker finishes the batch it has in hand, an API its open requests.
        stop_s=30.0,
        ready_s=READY_S,
        inherit_env=True,
    )


def probe(url: str) -> None:
    """Ready when it says so; one without a ready page is ready when it gives metrics. Raises `NotReadyError`."""
    try:
        http_probe.get(f"{url}/ready")
    except NotReadyError as error:
        if " answers 404" not in str(error):
            raise
        http_probe.get(f"{url}/metrics")
