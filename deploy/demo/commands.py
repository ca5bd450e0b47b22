"""`thalweg demo`: starts the stack if it does not run, and shows on a small corpus what it does.

Before: `make setup`. After: a running stack with data, and the addresses to go on with.

Exit codes: 0 all that was shown held; 1 something did not, and which is printed; 130 stopped by Ctrl-C: the next run
goes on.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import typer
from rich.console import Console

from connectors.upload_files import ApiUnavailable
from deploy.demo import play
from deploy.demo.client import ApiAway, Client
from deploy.demo.load import LoadFailed, Places
from deploy.demo.screen import Screen
from deploy.demo.table import BASE, Articles, SourceFailed, write_source
from deploy.local import apps, progress, stack
from deploy.local.commands import explained
from deploy.local.state import Phase
from runtime.directory import read_demo_key
from runtime.settings import load_settings
from schemas.codec import Codec
from schemas.registry import Registry

FAILED, INTERRUPTED = 1, 130

_FAILURES = (play.ClaimFailed, LoadFailed, SourceFailed, ApiAway, ApiUnavailable, psycopg.Error)


def demo() -> None:
    """Start the stack if it is not running, load a small corpus, and show live changes and a cited answer.

    Run it as often as you like: what is there already is kept. Exit code 1 if anything shown did not hold.
    """
    console = Console()
    screen = Screen(console)
    try:
        started = _start(screen)
        with _places(started) as places:
            for act in play.ACTS:
                act(screen, places)
        screen.step("Go on from here")
        screen.pairs(_addresses(started))
    except KeyboardInterrupt:
        console.print("\nStopped half-way. What runs goes on running: the same command again continues.")
        raise typer.Exit(INTERRUPTED) from None
    except _FAILURES as error:
        screen.failed(str(error))
        typer.echo("The stack goes on running. Look: thalweg status, thalweg doctor", err=True)
        raise typer.Exit(FAILED) from error


def _start(screen: Screen) -> stack.Stack:
    here = stack.open_stack()
    if here.running():
        screen.step(f"The stack in {here.home.root} runs already")
    else:
        screen.step("Start Kafka, Connect, schema registry, PostgreSQL, Weaviate and our own processes")
    began = time.monotonic()
    with explained(), progress.for_console(Console(stderr=True)) as reporter:
        # Of one that is ready there is nothing to report.
        ready = here.state()["phase"] == Phase.READY
        started = stack.start(apps=True, reporter=progress.Silent() if ready else reporter)
    if "query" not in started.state()["apis"]:
        screen.failed("the stack was started without its APIs: `thalweg down`, then again")
        raise typer.Exit(FAILED)
    if not ready:
        screen.held(f"everything is ready after {time.monotonic() - began:.0f} s")
    return started


@contextmanager
def _places(started: stack.Stack) -> Iterator[Places]:
    """The stack's parts, opened; closed at the end."""
    state = started.state()
    settings = load_settings()
    key = read_demo_key(Path(state["demo_key_file"]))
    with ExitStack() as opened:
        client = opened.enter_context(Client(state["apis"]["query"], key, BASE))
        articles = Articles(state["servers"]["postgres"]["dsn"])
        opened.callback(articles.close)
        yield Places(
            client=client,
            articles=articles,
            source_file=write_source(started.home.root / "demo"),
            tenant=settings.tenant,
            bootstrap=settings.kafka.bootstrap,
            upload_url=state["apis"]["upload"],
            key=key,
            environment={**os.environ, **started.environment(), "PYTHONPATH": str(apps.code_root())},
            codec=Codec(Registry(settings.registry.url)),
        )


def _addresses(started: stack.Stack) -> list[tuple[str, str]]:
    state, command = started.state(), _command(started)
    return [
        ("query API", f"{state['apis']['query']}  and to try it {state['apis']['query']}/docs"),
        ("upload API", f"{state['apis']['upload']}  and to try it {state['apis']['upload']}/docs"),
        ("API key", state["demo_key_file"]),
        ("source file", str(write_source(started.home.root / "demo"))),
        ("ask", f'{command} ask "Who reads the gauge at the old mill?"'),
        ("look", f"{command} status"),
        ("stop", f"{command} down    # data is kept"),
    ]


def _command(started: stack.Stack) -> str:
    """`thalweg` as it is to be typed here."""
    near = os.path.relpath(sys.argv[0])
    program = "thalweg" if shutil.which("thalweg") else sys.argv[0] if near.startswith("..") else near
    home = f"THALWEG_HOME={shlex.quote(str(started.home.root))} " if "THALWEG_HOME" in os.environ else ""
    return f"{home}{program}"
