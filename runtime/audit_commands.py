"""`thalweg audit export`: who did what, from a moment to another. Before it: the topic `audit`. After it: a file.

Exit codes: 0 done, 1 a server is away, 2 wrong usage.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Annotated

import typer

from runtime.audit import TOPIC, Kind
from runtime.clock import now_ms
from runtime.settings import Settings, load_settings
from runtime.times import parse_since
from runtime.topic_read import records_since
from schemas.codec import Codec
from schemas.records import AuditEntry
from schemas.registry import Registry

app = typer.Typer(no_args_is_help=True, help="Who did what.")

From = Annotated[str, typer.Option("--from", help="Not earlier: 12h, 30d, or a time such as 2026-05-04T10:00+00:00.")]
To = Annotated[str | None, typer.Option("--to", help="Earlier than this; absent: up to now.")]
Only = Annotated[list[Kind] | None, typer.Option("--kind", help="Only of this kind; may be given again.")]
Tenant = Annotated[str | None, typer.Option("--tenant", help="Only of this tenant; absent: of all.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, an entry a line.")]


@app.callback()
def _group() -> None:
    """Who did what."""


@app.command("export")
def export(*, begin: From, end: To = None, kind: Only = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Print the audit's entries from a moment to another, as they were written; with --json for a machine.

    An entry that was held back while Kafka was away lies behind later ones: sort by at_ms where order matters.
    """
    since, until = _moment("--from", begin), now_ms() if end is None else _moment("--to", end)
    if since >= until:
        raise typer.BadParameter("--from is not before --to")
    kinds = frozenset(kind or Kind)
    for entry in read(load_settings(), since, until):
        if (not kind or entry.kind in kinds) and tenant in (None, entry.tenant):
            typer.echo(json.dumps(dataclasses.asdict(entry)) if as_json else as_line(entry))


def read(settings: Settings, since_ms: int, until_ms: int) -> Iterator[AuditEntry]:
    """The entries of [since, until) in the order of the topic. Raises BrokerUnavailable, RegistryUnavailable."""
    with closing(Registry(settings.registry.url)) as registry:
        codec = Codec(registry)
        timeout_s = settings.kafka.request_timeout_s
        # An entry is written after what it tells of, at times much later: so read from the start on, and to the end.
        for message in records_since(settings.kafka.bootstrap, TOPIC, since_ms, timeout_s=timeout_s):
            value = message.value()
            if value is None:
                continue
            entry = codec.decode(value, AuditEntry)
            if since_ms <= entry.at_ms < until_ms:
                yield entry


def as_line(entry: AuditEntry) -> str:
    """An entry for the eye: time, kind, who, what, to what, how it ended. Control characters are shown as escapes."""
    at = datetime.fromtimestamp(entry.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    parts = (entry.kind or "-", entry.tenant or "-", entry.actor or "-", entry.action, entry.resource, entry.outcome)
    told = " ".join(f"{name}={value}" for name, value in sorted(entry.detail.items()))
    return "  ".join(shown(part) for part in (at, *parts, told) if part)


def shown(text: str) -> str:
    """The text with what is not printable as Python's escapes: no name can move a terminal's cursor or make a line."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _moment(option: str, text: str) -> int:
    try:
        return parse_since(text, now_ms())
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}") from error
