"""`thalweg sources ...`, `thalweg publish FILE`, `thalweg upload PATH...`.

Before this: a person or a script. After this: `source_commands.py`, `publish.py`, `upload_files.py`. Exit codes: 0
done, 1 refused or failed, 2 wrong usage.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from connectors import source_commands
from connectors.bases import make_bases
from connectors.publish import Following, LinesRefused, Published, follow_receipts, publish_events, read_lines
from connectors.upload_files import ApiUnavailable, Outcome, Uploader, find_files, upload_all
from runtime.clock import now_ms
from runtime.directory import NotReadBack, read_demo_key
from runtime.producer import ConfirmedProducer, DeliveryFailed
from runtime.settings import Settings, SettingsError, load_settings
from runtime.topics import BrokerUnavailable
from schemas.codec import Codec
from schemas.records import Event
from schemas.registry import NotRegistered, Registry, RegistryUnavailable

app = typer.Typer(help="How changes come in.")
sources = source_commands.app
app.add_typer(sources, name="sources")

KEY_VARIABLE = "THALWEG_API_KEY"
_SINCE_MS = 5_000

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until it is searchable.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds to wait until all is searchable.")]
KnowledgeBase = Annotated[str, typer.Option("--knowledge-base", "-k", help="The knowledge base.")]


@app.command("publish")
def publish(
    file: Annotated[Path, typer.Argument(help="JSON lines; - reads standard input.", allow_dash=True)],
    *,
    knowledge_base: KnowledgeBase = "default",
    source: Annotated[str, typer.Option(help="Who says so: the events' source.")] = "events",
    no_wait: NoWait = False,
    timeout: Timeout = 300,
    as_json: AsJson = False,
) -> None:
    """Publish documents, a JSON object a line: id, text, title?, metadata?, knowledge_base?, access?, delete?.

    Every line is checked before the first is published. --knowledge-base stands in where a line names none.
    """
    settings = load_settings()
    try:
        lines = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        events = read_lines(lines.split("\n"), tenant=settings.tenant, knowledge_base=knowledge_base, source=source)
        told = _publish(settings, events, wait_s=0 if no_wait else timeout, quiet=as_json)
    except LinesRefused as error:
        _fail(f"{file}: nothing was published.\n{error}")
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"{file}: cannot be read: {error}")
    except (DeliveryFailed, NotReadBack, BrokerUnavailable, RegistryUnavailable, NotRegistered) as error:
        _fail(f"{error}; what was confirmed before stays published, and publishing the file again changes nothing")
    if as_json:
        typer.echo(json.dumps(told))
    else:
        typer.echo(f"{told['published']} published, {told['failed']} failed, {told['waiting']} still on their way")
        for item in told["failures"]:
            typer.echo(f"  {item['document_id']} at {item['position']}: {item['reason']}")
    if told["failed"] or told["waiting"]:
        raise typer.Exit(1)


@app.command("upload")
def upload(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders; folders are searched through.")],
    *,
    knowledge_base: KnowledgeBase = "default",
    title: Annotated[str | None, typer.Option(help="Of each file; absent, what the file says.")] = None,
    metadata: Annotated[str | None, typer.Option(help="A JSON object.")] = None,
    access: Annotated[str | None, typer.Option(help="Who may read: names with commas between.")] = None,
    no_wait: NoWait = False,
    timeout: Timeout = 300,
    as_json: AsJson = False,
) -> None:
    """Upload files and wait until they are searchable. Exit code 1 if any failed, with the reasons."""
    settings = load_settings()
    fields = {"knowledge_base": knowledge_base, "title": title, "metadata": metadata, "access": access}
    try:
        files = find_files(paths)
    except FileNotFoundError as error:
        _fail(str(error))
    if not files:
        _fail("there is no file in what was named")
    url = f"http://{settings.upload.host}:{settings.upload.port}"
    with (
        httpx.Client(base_url=url, headers={"X-API-Key": _key(settings)}, timeout=120) as client,
        _bar(quiet=as_json) as progress,
    ):
        task = progress.add_task("uploading", total=len(files))

        def tell(path: str, state: str) -> None:
            progress.update(task, description=f"{state:10} {Path(path).name}")

        outcomes: list[Outcome] = []
        try:
            given = {name: text for name, text in fields.items() if text is not None}
            for outcome in upload_all(Uploader(client, given, timeout_s=timeout), files, wait=not no_wait, tell=tell):
                outcomes.append(outcome)
                progress.advance(task)
        except ApiUnavailable as error:
            _fail(f"{error} at {url}; `thalweg up` starts the local stack")
    _show_outcomes(outcomes, as_json=as_json)


def _publish(settings: Settings, events: list[Event], *, wait_s: float, quiet: bool) -> dict[str, Any]:
    """Publish and follow; returns what is printed."""
    codec = Codec(Registry(settings.registry.url))
    following = Following()
    # Receipts from shortly before now on: whoever started a moment later might miss the first.
    tail = (
        follow_receipts(settings.kafka.bootstrap, codec, following, since_ms=now_ms() - _SINCE_MS) if wait_s else None
    )
    done: list[Published] = []
    try:
        with (
            ConfirmedProducer(settings.kafka.bootstrap, client_id="thalweg-publish") as producer,
            _bar(quiet=quiet) as progress,
        ):
            task = progress.add_task("published", total=len(events))
            bases = [event.knowledge_base for event in events]
            make_bases(settings.kafka.bootstrap, codec, producer, settings.tenant, bases, timeout_s=30)
            for batch in publish_events(producer, codec, events):
                done += batch
                progress.update(task, completed=len(done))
            positions = [item.position for item in done]
            waiting: list[str] = []
            if wait_s:
                task = progress.add_task("searchable", total=len(events))
                waiting = following.wait(positions, wait_s, lambda count: progress.update(task, completed=count))
    finally:
        if tail is not None:
            tail.close()
    failures = following.failures(positions)
    return {
        "published": len(done),
        "failed": len(failures),
        "waiting": len(waiting),
        "waited": bool(wait_s),
        "documents": [dataclasses.asdict(item) for item in done],
        "failures": [
            {"document_id": item.document_id, "position": item.position, "reason": failures[item.position]}
            for item in done
            if item.position in failures
        ],
    }


def _show_outcomes(outcomes: list[Outcome], *, as_json: bool) -> None:
    bad = [outcome for outcome in outcomes if not outcome.well]
    if as_json:
        uploads = [dataclasses.asdict(outcome) for outcome in outcomes]
        typer.echo(json.dumps({"uploaded": len(outcomes) - len(bad), "failed": len(bad), "uploads": uploads}))
    else:
        typer.echo(f"{len(outcomes) - len(bad)} uploaded, {len(bad)} failed")
        if bad:
            table = Table("file", "state", "reason")
            for outcome in bad:
                table.add_row(outcome.path, outcome.state, outcome.reason or "")
            Console().print(table)
    if bad:
        raise typer.Exit(1)


def _bar(*, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=quiet)


def _key(settings: Settings) -> str:
    if given := os.environ.get(KEY_VARIABLE):
        return given
    if settings.access.demo_key_file is None:
        _fail(f"no API key: set {KEY_VARIABLE}, or start the local stack with `thalweg up`")
    try:
        return read_demo_key(settings.access.demo_key_file)
    except SettingsError as error:
        _fail(str(error))


def _fail(text: str) -> NoReturn:
    typer.echo(f"Error: {text}", err=True)
    raise typer.Exit(1)
