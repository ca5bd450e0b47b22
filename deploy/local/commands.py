"""`thalweg up`, `down`, `status` and `setup`: the local stack for people and scripts.

Before: `stack` does the work. After: the `thalweg` command mounts `down` and `setup`, and makes `up` and `status` with
a function that can tell lag, rate and freshness.

Exit codes: 0 done; 1 it failed, and what to do is printed; 2 wrong usage; 3 (`status` only) nothing runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deploy.local import parts, plan, progress, stack, status_report
from deploy.local.errors import LocalStackError, StartError
from deploy.local.state import Phase
from deploy.local.status_report import Measure, nothing_measured

FAILED, WRONG_USAGE, NOT_RUNNING = 1, 2, 3

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output; progress goes to standard error.")]


def make_status(measure: Measure) -> Callable[..., None]:
    """`thalweg status`."""

    def status(as_json: AsJson = False) -> None:
        """Show each server, stage and process. Exit code 3 if nothing runs."""
        with explained():
            now = stack.open_stack().state()
            running = now["phase"] in {Phase.STARTING, Phase.READY, Phase.FAILED}
            found = status_report.report(now, measure(now) if running else nothing_measured(now))
        if as_json:
            typer.echo(json.dumps(found, indent=2))
        else:
            status_report.show(found, Console())
            if not running:
                typer.echo("Nothing runs. Start it: thalweg up")
        if not running:
            raise typer.Exit(NOT_RUNNING)

    return status


def make_up(measure: Measure) -> Callable[..., None]:
    """`thalweg up`."""

    def up(
        only: Annotated[str | None, typer.Option(help="Servers to start, by comma: kafka,registry,connect,...")] = None,
        servers_only: Annotated[bool, typer.Option("--servers-only", help="No processes of ours on top.")] = False,
        as_json: AsJson = False,
    ) -> None:
        """Set up what is missing, start all of it, and wait until it is ready. Exit code 1 if some of it does not."""
        names = [name.strip() for name in only.split(",") if name.strip()] if only is not None else None
        if names is not None and (not names or set(names) - set(plan.SERVERS)):
            raise typer.BadParameter(f"--only takes names out of {', '.join(plan.SERVERS)}")
        here = stack.open_stack()
        ran_already = here.running()
        with explained(), progress.for_console(Console(stderr=True)) as reporter:
            # A part of the servers cannot carry our own processes.
            stack.start(only=names, apps=not servers_only and names is None, reporter=reporter)
        found = status_report.report(here.state(), measure(here.state()))
        if as_json:
            typer.echo(json.dumps(found, indent=2))
            return
        console = Console()
        if ran_already:
            console.print(f"Already running in {here.home.root}; nothing was started.", highlight=False)
        status_report.show(found, console)
        console.print(
            f"API key of the local administrator: {found['demo_key_file']}\n"
            f"Database password: {here.home.postgres_password_file}\n"
            "Look: thalweg status    Stop, data kept: thalweg down",
            highlight=False,
            soft_wrap=True,
        )

    return up


def down(
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="Also delete all data, logs and keys of this stack.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Stop everything, in reverse order. Data stay unless you say otherwise. Stopping what does not run is no error."""
    here = stack.open_stack()
    with explained(), progress.for_console(Console(stderr=True)) as reporter:
        reporter.begin("stack", "stopping")
        stopped = here.stop()
        reporter.end("stack", "stopped" if stopped else "was not running")
        if delete_data:
            here.delete_data()
            reporter.end("data", "deleted")
    if as_json:
        typer.echo(json.dumps({"stopped": stopped, "deleted": delete_data, "home": str(here.home.root)}))


def setup(as_json: AsJson = False) -> None:
    """Fetch and build all parts into the cache, and start nothing. What is there already is kept."""
    with explained(), progress.for_console(Console(stderr=True)) as reporter:
        places = parts.prepare(reporter=reporter)
    if as_json:
        typer.echo(json.dumps({"cache": str(parts.cache_dir()), "parts": {k: str(v) for k, v in places.items()}}))


@contextmanager
def explained() -> Iterator[None]:
    """An error becomes its text on standard error, with the failing log's end and what to do, and exit code 1."""
    try:
        yield
    except StartError as error:
        typer.echo(f"Error: {error.args[0]}", err=True)
        if error.log:
            typer.echo("\n".join(f"  | {line}" for line in error.log.splitlines()), err=True)
        typer.echo(error.fix, err=True)
        raise typer.Exit(FAILED) from error
    except LocalStackError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(FAILED) from error
    except PermissionError as error:
        typer.echo(
            f"Error: no access to {error.filename}. Was the stack started by another account?\n"
            f"Choose a home of your own with THALWEG_HOME, or give {Path(str(error.filename)).name} back.",
            err=True,
        )
        raise typer.Exit(FAILED) from error
