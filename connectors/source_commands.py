"""`thalweg sources plan|apply|status|remove FILE`: tables captured as their files say.

Before this: `apply.py`. After this: rows become documents. Exit codes: 0 done (or all well), 1 refused, failed or not
healthy, 2 wrong usage.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from confluent_kafka import KafkaException

from connectors import apply as work
from connectors.connect import Connect, ConnectRefused, ConnectUnavailable
from connectors.database import Database, DatabaseRefused, DatabaseUnavailable
from connectors.definitions import Definitions
from connectors.plan import Action, Plan, Step
from connectors.preflight import Finding, Weight
from connectors.secrets import LocalSecrets, local_secrets
from connectors.source import find_dsn, load_source
from runtime.acting import command_log, recorded
from runtime.audit import AuditUnavailable, Kind
from runtime.directory import NotReadBack
from runtime.producer import ConfirmedProducer, DeliveryFailed
from runtime.settings import Settings, load_with_origin
from runtime.topics import BrokerUnavailable, Topics
from schemas.codec import Codec
from schemas.registry import NotRegistered, Registry, RegistryUnavailable
from schemas.source import SourceError, SourceSpec

app = typer.Typer(help="Tables as sources, from YAML files.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The source's YAML file.", exists=True, dir_okay=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Resnapshot = Annotated[bool, typer.Option("--resnapshot", help="Read the whole table anew, in a new epoch.")]
PasswordReference = Annotated[
    str | None,
    typer.Option(
        "--password-ref",
        help="How the Connect worker finds the database's password, such as ${file:/run/secrets/db.properties:password}"
        "; with the local stack this is done for you. Without one, the password is readable in Connect's REST API.",
    ),
]

_MARK = {Action.CREATE: "+", Action.UPDATE: "~", Action.KEEP: "=", Action.DELETE: "-", Action.RESTART: "!"}
_ERRORS = (
    *(SourceError, DatabaseUnavailable, DatabaseRefused, ConnectUnavailable, ConnectRefused),
    *(BrokerUnavailable, DeliveryFailed, NotReadBack, RegistryUnavailable, NotRegistered, KafkaException),
    *(work.NotRunning, AuditUnavailable),
)


@app.command("plan")
def plan_command(
    file: File, resnapshot: Resnapshot = False, password_ref: PasswordReference = None, as_json: AsJson = False
) -> None:
    """Show what `apply` would do, and change nothing."""
    with _session(file, password_ref) as session:
        prepared = work.prepare(session.spec, session.places, session.database, resnapshot=resnapshot)
        _show_plan(prepared.plan, prepared.checked.advice, as_json=as_json, done=False)


@app.command("apply")
def apply_command(
    file: File,
    resnapshot: Resnapshot = False,
    password_ref: PasswordReference = None,
    wait_s: Annotated[
        float, typer.Option("--timeout", min=1, help="Seconds to wait until changes are streamed.")
    ] = 300,
    as_json: AsJson = False,
) -> None:
    """Make it so, and wait until changes are streamed. Twice changes nothing."""
    with _session(file, password_ref, keep_password=True) as session:
        prepared = work.prepare(session.spec, session.places, session.database, resnapshot=resnapshot)
        if prepared.plan.changes or prepared.plan.epoch.renewal:
            tell = _nothing if as_json else typer.echo
            with _recorded("sources.apply", session, {"epoch": str(prepared.plan.epoch.number)}):
                work.apply(prepared, session.places, session.database, wait_s=wait_s, progress=tell)
        _show_plan(prepared.plan, prepared.checked.advice, as_json=as_json, done=True)


@app.command("status")
def status_command(file: File, as_json: AsJson = False) -> None:
    """Show connector, tasks, slot and epoch; exit code 1 unless all is well."""
    with _session(file, None) as session:
        found = work.status(session.spec, session.places, session.database)
        told = _status(session.spec, found)
        if as_json:
            typer.echo(json.dumps(told))
        else:
            _show_status(told)
        if not found.healthy:
            raise typer.Exit(1)


@app.command("remove")
def remove_command(
    file: File,
    delete_documents: Annotated[
        bool, typer.Option("--delete-documents", help="End the documents that came from this source, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove connector, slot and publication. Its documents stay, unless --delete-documents is given."""
    with _session(file, None) as session:
        tell = _nothing if as_json else typer.echo
        with _recorded("sources.remove", session, {"documents": "end" if delete_documents else "stay"}):
            plan = work.remove(
                session.spec, session.places, session.database, delete_documents=delete_documents, progress=tell
            )
        if session.secrets is not None:
            session.secrets.drop(session.spec.name)
        if as_json:
            typer.echo(json.dumps({**_plan(plan, ()), "documents_deleted": delete_documents}))
            return
        for step in plan.changes:
            typer.echo(_line(step))
        if not plan.changes:
            typer.echo("Nothing to remove.")
        typer.echo("Its documents end." if delete_documents else "Its documents stay in the index.")


@dataclasses.dataclass(frozen=True)
class _Session:
    spec: SourceSpec
    places: work.Places
    database: Database
    secrets: LocalSecrets | None


@contextmanager
def _session(file: Path, password_ref: str | None, *, keep_password: bool = False) -> Iterator[_Session]:
    """Everything a command needs, closed at its end; errors that a person can act on become one line and exit 1."""
    try:
        settings, origins = load_with_origin()
        spec = load_source(file)
        dsn = find_dsn(spec, settings.postgres.dsn.get_secret_value() if settings.postgres.dsn else None)
        secrets = local_secrets(settings.home, origins)
        with Database(dsn) as database, _places(settings) as places:
            reference = password_ref
            if reference is None and secrets is not None and database.address.password:
                reference = secrets.reference(spec.name)
                if keep_password:
                    secrets.put(spec.name, database.address.password)
            yield _Session(spec, dataclasses.replace(places, password_reference=reference), database, secrets)
    except _ERRORS as error:
        text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        typer.echo(f"Error: {text}", err=True)
        raise typer.Exit(1) from error


def _recorded(action: str, session: _Session, detail: dict[str, str]) -> AbstractContextManager[None]:
    """What is done within is in the audit before it begins."""
    log, name = command_log(session.places.producer, session.places.codec), session.spec.name
    return recorded(log, Kind.CONFIGURATION, action, name, tenant=session.places.tenant, detail=detail)


@contextmanager
def _places(settings: Settings) -> Iterator[work.Places]:
    codec = Codec(Registry(settings.registry.url))
    connect = Connect(settings.connect.url)
    producer = ConfirmedProducer(
        settings.kafka.bootstrap, client_id="thalweg-sources", timeout_s=settings.kafka.request_timeout_s
    )
    try:
        yield work.Places(
            bootstrap=settings.kafka.bootstrap,
            connect=connect,
            definitions=Definitions(settings.kafka.bootstrap, codec, timeout_s=settings.kafka.request_timeout_s),
            producer=producer,
            codec=codec,
            topics=Topics(settings.kafka.bootstrap, timeout_s=settings.kafka.request_timeout_s),
            registry_url=settings.connect.registry_url,
            tenant=settings.tenant,
        )
    finally:
        producer.close()
        connect.close()


def _plan(plan: Plan, advice: tuple[Finding, ...]) -> dict[str, Any]:
    return {
        "changed": bool(plan.changes),
        "epoch": plan.epoch.number,
        "renewal": plan.epoch.renewal,
        "steps": [dataclasses.asdict(step) for step in plan.steps],
        "notes": list(plan.notes),
        "advice": [dataclasses.asdict(finding) for finding in advice if finding.weight is Weight.ADVICE],
    }


def _show_plan(plan: Plan, advice: tuple[Finding, ...], *, as_json: bool, done: bool) -> None:
    if as_json:
        typer.echo(json.dumps({**_plan(plan, advice), "applied": done}))
        return
    for step in plan.steps:
        typer.echo(_line(step))
        for change in step.differences:
            typer.echo(f"      {change.name}: {_value(change.old)} -> {_value(change.new)}")
    for note in plan.notes:
        typer.echo(f"Note: {note}")
    for finding in advice:
        typer.echo(f"Advice: {finding.text} {finding.fix}")
    if not plan.changes:
        typer.echo("Nothing to change." if not done else "Nothing changed: all is as the file says.")
    elif not done:
        typer.echo(f"{len(plan.changes)} to change; `thalweg sources apply` does it.")


def _line(step: Step) -> str:
    return f"  {_MARK[step.action]} {step.action.value:7}{step.what} {step.name}"


def _value(text: str | None) -> str:
    return "(none)" if text is None else text


def _status(spec: SourceSpec, found: work.SourceStatus) -> dict[str, Any]:
    connector, slot, definition = found.connector, found.slot, found.definition
    return {
        "source": spec.name,
        "topic": spec.topic,
        "healthy": found.healthy,
        "connector": None if connector is None else {"name": connector.name, "state": connector.state},
        "tasks": [] if connector is None else [dataclasses.asdict(task) for task in connector.tasks],
        "slot": None if slot is None else dataclasses.asdict(slot),
        "snapshot_done": found.snapshot_done,
        "epoch": None if definition is None else definition.epoch,
        "applied": definition is not None and not definition.removed,
        "fix": _fix(found),
    }


def _fix(found: work.SourceStatus) -> str | None:
    if found.definition is None or found.definition.removed or found.connector is None or found.slot is None:
        return "`thalweg sources apply` makes what is missing"
    if found.slot.lost:
        return "`thalweg sources apply` begins a new epoch and reads the table anew"
    if found.connector.failure is not None:
        return "mend the cause, then `thalweg sources apply`"
    return None


def _show_status(told: dict[str, Any]) -> None:
    connector, slot = told["connector"], told["slot"]
    typer.echo(
        f"source     {told['source']}, epoch {_value(told['epoch'] and str(told['epoch']))}, topic {told['topic']}"
    )
    typer.echo(f"connector  {'missing' if connector is None else connector['state']}")
    for task in told["tasks"]:
        typer.echo(f"task {task['id']}     {task['state']}{': ' + task['reason'] if task['reason'] else ''}")
    if slot is None:
        typer.echo("slot       missing")
    else:
        active = "streaming" if slot["active"] else "not read"
        typer.echo(f"slot       {active}, {slot['lag_bytes']} bytes behind, log {slot['wal_status']}")
    typer.echo(f"snapshot   {'done' if told['snapshot_done'] else 'not done, or not streaming'}")
    if told["fix"]:
        typer.echo(f"Fix: {told['fix']}")


def _nothing(text: str) -> None:
    del text
