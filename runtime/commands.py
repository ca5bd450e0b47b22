"""`thalweg topics apply` and `thalweg schemas check|register`: the broker and the registry, made as the files say.

Before this: `schemas/catalog.py`. After this: every process that reads or writes a topic. Exit codes: 0 done, 1 a
server is away or refuses, 2 wrong usage.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from runtime.settings import Settings, load_settings
from runtime.topics import Applied, BrokerUnavailable, Topics
from schemas.catalog import Topic, topics
from schemas.compatibility import NothingCompared, against_ref
from schemas.registry import IncompatibleSchema, Registry, RegistryUnavailable

app = typer.Typer(help="Topics and schemas, as the files say.")
topics_app = typer.Typer(help="Topics on the broker.", no_args_is_help=True)
schemas_app = typer.Typer(help="Schemas in the registry.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(schemas_app, name="schemas")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Against = Annotated[
    str | None, typer.Option(metavar="REF", help="Compare with this git ref of the checkout here, not the registry.")
]
Replication = Annotated[int, typer.Option(min=1, help="Copies of each partition, for topics that are made now.")]


@topics_app.callback()
def _group() -> None:
    """Topics on the broker."""


@topics_app.command("apply")
def topics_apply(as_json: AsJson = False, replication: Replication = 1) -> None:
    """Make every topic, or bring its configuration to what its file says. Twice changes nothing."""
    try:
        done = apply_topics(load_settings(), replication=replication)
    except BrokerUnavailable as error:
        raise _failed(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"topics": done}))
        return
    for name, what in done.items():
        typer.echo(f"{name:14} {what}")


@schemas_app.command("check")
def schemas_check(against: Against = None, as_json: AsJson = False) -> None:
    """May our schemas be registered beside all earlier ones? Changes nothing; exit code 1 if one may not."""
    if against is not None:
        _check_against(against, as_json=as_json)
        return
    registry = Registry(load_settings().registry.url)
    try:
        found = {topic.subject: registry.check(topic) for topic in _with_schema()}
    except RegistryUnavailable as error:
        raise _failed(str(error)) from error
    if as_json:
        typer.echo(
            json.dumps({"subjects": {name: "compatible" if ok else "incompatible" for name, ok in found.items()}})
        )
    else:
        for name, ok in found.items():
            typer.echo(f"{name:20} {'compatible' if ok else 'INCOMPATIBLE with an earlier version'}")
    if not all(found.values()):
        raise typer.Exit(1)


@schemas_app.command("register")
def schemas_register(as_json: AsJson = False) -> None:
    """Register our schemas. Twice changes nothing."""
    try:
        ids = register_schemas(load_settings())
    except (RegistryUnavailable, IncompatibleSchema) as error:
        raise _failed(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"subjects": ids}))
        return
    for subject, number in ids.items():
        typer.echo(f"{subject:20} id {number}")


def _check_against(ref: str, *, as_json: bool) -> None:
    try:
        found = against_ref(ref, Path.cwd())
    except NothingCompared as error:
        raise _failed(str(error)) from error
    if as_json:
        typer.echo(json.dumps({"schemas": found}))
    else:
        for name, why in found.items():
            typer.echo(f"{name:36} {'compatible' if why is None else 'INCOMPATIBLE: ' + why}")
    if any(found.values()):
        raise typer.Exit(1)


def apply_topics(settings: Settings, *, replication: int = 1) -> dict[str, Applied]:
    """Make every topic as its file says; returns what was done to each. Raises BrokerUnavailable."""
    broker = Topics(settings.kafka.bootstrap, timeout_s=settings.kafka.request_timeout_s)
    return {name: broker.apply(topic, replication=replication) for name, topic in topics().items()}


def register_schemas(settings: Settings) -> dict[str, int]:
    """Register every schema; returns the ids by subject. Raises RegistryUnavailable, IncompatibleSchema."""
    registry = Registry(settings.registry.url)
    return {topic.subject: registry.register(topic) for topic in _with_schema()}


def _with_schema() -> list[Topic]:
    return [topic for topic in topics().values() if topic.record is not None]


def _failed(text: str) -> typer.Exit:
    typer.echo(f"Error: {text}", err=True)
    return typer.Exit(1)
