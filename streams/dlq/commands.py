"""`thalweg dlq list|show|redrive|drop`: dead letters as a person sees and settles them.

Before this: `ways_back.py`, `adapters/letter_log.py`. After this: a terminal or a script. Exit codes: 0 done (or
shown what would be done), 1 a server is away or there is no such letter, 2 wrong usage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from runtime.acting import account
from runtime.clock import now_ms
from runtime.producer import ConfirmedProducer
from runtime.settings import Settings, load_settings
from runtime.times import parse_since
from runtime.topics import BrokerUnavailable
from schemas.codec import Codec, DecodeError
from schemas.registry import Registry, RegistryUnavailable
from streams.adapters.letter_log import LetterLog, LetterWriter
from streams.core.letters import HEADROOM, Letter, Place, State, counts
from streams.dlq.lookup import IndexUnavailable, describer, look_up
from streams.dlq.views import as_text, hex_dump, row, shortened, show_table
from streams.dlq.ways_back import Describer, UnknownLetters, drop, redrive, select
from streams.pipeline import STAGES
from streams.ports import Inbound

app = typer.Typer(no_args_is_help=True, help="Dead letters: records that no stage could take.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Stage = Annotated[str | None, typer.Option("--stage", help="Only of this stage.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Only with this reason.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="As `list` shows them.")]
Execute = Annotated[bool, typer.Option("--execute", help="Do it; without this it is only shown.")]
By = Annotated[str | None, typer.Option("--by", help="Who does it, for the audit; absent, user@host.")]

_HEX = 512  # bytes of an undecodable value shown


@app.command("list")
def list_letters(
    *,
    stage: Stage = None,
    reason: Reason = None,
    since: Annotated[str | None, typer.Option(help="Not older: 30m, 12h, 7d, or an ISO time.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Settled and superseded ones, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Dead letters by stage and reason, oldest first: what waits for somebody to redrive or drop it.

    A letter is superseded when the index holds its document in a newer version, or ended since: nothing is lost with
    it. If the index cannot be asked, none is shown as superseded, and that is said.
    """
    settings = load_settings()
    found, blind = _read(settings, since_ms=_since(since), must_know=False)
    shown = [
        letter
        for letter in found
        if stage in (None, letter.stage)
        and reason in (None, letter.reason)
        and (everything or letter.state is State.PARKED)
    ]
    if as_json:
        told = [{"stage": of, "reason": why, "count": number} for (of, why), number in counts(shown).items()]
        typer.echo(json.dumps({"counts": told, "letters": [row(letter) for letter in shown], "index_asked": not blind}))
        return
    show_table(shown)
    if blind:
        typer.echo(f"({blind}: none is shown as superseded)", err=True)
    hidden = len(found) - len(shown)
    if hidden and not everything and stage is None and reason is None:
        typer.echo(f"{hidden} more are redriven, dropped or superseded: --all shows them")


@app.command("show")
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
    *,
    raw: Annotated[Path | None, typer.Option("--raw", help="Write the original value's bytes to this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """A dead letter: why, its record's headers, and its value, decoded if it decodes, else as a hex dump."""
    settings = load_settings()
    place = _place(letter_id)
    with (
        closing(Registry(settings.registry.url)) as registry,
        LetterLog(settings.kafka.bootstrap, timeout_s=settings.kafka.request_timeout_s) as letters,
    ):
        codec = Codec(registry)
        found, _ = _known(settings, letters, codec, None, must_know=False)
        letter = _chosen(found, [place], None, None)[0]
        ((_, record),) = list(letters.fetch([letter]))
        body = None if record is None else _decoded(codec, record)
    if record is None:
        raise _failed(f"{letter.id}: its value was left out of the letter, and {letter.rejected} is no longer kept")
    if raw is not None:
        raw.write_bytes(record.value or b"")
    if as_json:
        told = row(letter) | {
            "trace": letter.trace,
            "key": as_text(record.key),
            "headers": [[name, as_text(value)] for name, value in record.headers],
            "value": body,
            "value_hex": None if body is not None else (record.value or b"").hex(),
        }
        typer.echo(json.dumps(told, default=as_text, ensure_ascii=False))
        return
    console = Console(highlight=False)
    for name, value in (row(letter) | {"trace": letter.trace or None}).items():
        if value is not None:
            console.print(f"[bold]{name:14}[/bold] {escape(str(value))}", soft_wrap=True)
    console.print(f"[bold]{'key':14}[/bold] {escape(repr(record.key))}", soft_wrap=True)
    for name, value in record.headers:
        console.print(f"[bold]{'header':14}[/bold] {escape(name)} = {escape(repr(value))}", soft_wrap=True)
    if body is not None:
        console.print_json(json.dumps(shortened(body), default=as_text, ensure_ascii=False))
    else:
        console.print(escape(hex_dump(record.value or b"", _HEX)), soft_wrap=True)
    if raw is not None:
        console.print(f"{len(record.value or b'')} bytes written to {escape(str(raw))}")


@app.command("redrive")
def redrive_letters(
    ids: Ids = None,
    *,
    stage: Stage = None,
    reason: Reason = None,
    execute: Execute = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Put records back into their topics, byte for byte: preview first, --execute to act.

    A record keeps the place of its first acceptance as its version, so it never replaces anything newer; where the
    index holds a newer version already, the letter is marked superseded and nothing is sent. Redriving again, also
    after an interruption, has the effect of once. Each is written to the topic `audit`.
    """
    settings = load_settings()
    chosen = _select(settings, ids, stage, reason)
    if not execute:
        _preview(chosen, "redriven", as_json=as_json)
        return
    with (
        LetterLog(settings.kafka.bootstrap, timeout_s=settings.kafka.request_timeout_s) as letters,
        _writer(settings) as writer,
    ):
        done = list(redrive(chosen, letters.fetch, writer, by=by or account(), now_ms=now_ms))
    _tell(chosen, done, as_json=as_json)


@app.command("drop")
def drop_letters(
    ids: Ids = None,
    *,
    stage: Stage = None,
    reason: Reason = None,
    execute: Execute = False,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Give records up: preview first, --execute to act. They stay readable until the topic's retention ends.

    Each is written to the topic `audit`.
    """
    settings = load_settings()
    chosen = _select(settings, ids, stage, reason)
    if not execute:
        _preview(chosen, "dropped", as_json=as_json)
        return
    with _writer(settings) as writer:
        done = list(drop(chosen, writer, by=by or account(), now_ms=now_ms))
    _tell(chosen, done, as_json=as_json)


def _select(settings: Settings, ids: Sequence[str] | None, stage: str | None, reason: str | None) -> list[Letter]:
    if not ids and stage is None and reason is None:
        raise typer.BadParameter("name letters by their ids, or by --stage and --reason")
    if ids and (stage is not None or reason is not None):
        raise typer.BadParameter("give ids, or --stage and --reason, not both")
    if stage is not None and stage not in {one.name for one in STAGES}:
        raise typer.BadParameter(f"--stage: there are {', '.join(one.name for one in STAGES)}")
    places = [_place(one) for one in ids or ()]
    found, _ = _read(settings, since_ms=None, must_know=True)
    return _chosen(found, places, stage, reason)


def _chosen(found: Sequence[Letter], places: Sequence[Place], stage: str | None, reason: str | None) -> list[Letter]:
    try:
        return select(found, places, stage=stage, reason=reason)
    except UnknownLetters as error:
        raise _failed(f"{error}; `thalweg dlq list --all` shows those there are") from error


def _read(settings: Settings, *, since_ms: int | None, must_know: bool) -> tuple[list[Letter], str]:
    """The letters, and why the index could not be asked, if it could not."""
    with (
        closing(Registry(settings.registry.url)) as registry,
        LetterLog(settings.kafka.bootstrap, timeout_s=settings.kafka.request_timeout_s) as letters,
    ):
        return _known(settings, letters, Codec(registry), since_ms, must_know=must_know)


def _known(
    settings: Settings, letters: LetterLog, codec: Codec, since_ms: int | None, *, must_know: bool
) -> tuple[list[Letter], str]:
    try:
        describe: Describer = describer(settings, codec)
        found = letters.read(since_ms=since_ms, describe=describe)
    except BrokerUnavailable as error:
        raise _failed(str(error)) from error
    try:
        return look_up(settings, found), ""
    except IndexUnavailable as error:
        if must_know:
            raise _failed(f"{error}; it must be asked whether anything newer is there") from error
        return found, str(error)


def _preview(chosen: Sequence[Letter], done: str, *, as_json: bool) -> None:
    todo = [letter for letter in chosen if letter.settled_ms is None]
    if as_json:
        typer.echo(json.dumps({"executed": False, "would": len(todo), "letters": [row(letter) for letter in chosen]}))
        return
    show_table(chosen)
    settled = len(chosen) - len(todo)
    rest = f", {settled} were settled before and stay as they are" if settled else ""
    typer.echo(f"{len(todo)} would be {done}{rest}. Nothing was changed: --execute acts.")


def _tell(chosen: Sequence[Letter], done: Sequence[Letter], *, as_json: bool) -> None:
    """What was done; exit code 1 if a letter could not be settled."""
    ended = {letter.id: letter for letter in done}
    stuck = [letter for letter in chosen if letter.settled_ms is None and letter.id not in ended]
    if as_json:
        now = [row(ended.get(letter.id, letter)) for letter in chosen]
        typer.echo(json.dumps({"executed": True, "settled": len(done), "stuck": len(stuck), "letters": now}))
    else:
        for state in State:
            if number := sum(letter.state is state for letter in done):
                typer.echo(f"{number} {state.value}")
        if before := len(chosen) - len(done) - len(stuck):
            typer.echo(f"{before} settled before, left as they are")
        for letter in stuck:
            typer.echo(f"{letter.id}: not sent, {letter.rejected} is no longer kept; `thalweg dlq drop` gives it up")
    if stuck:
        raise typer.Exit(1)


@contextmanager
def _writer(settings: Settings) -> Iterator[LetterWriter]:
    with (
        closing(Registry(settings.registry.url)) as registry,
        ConfirmedProducer(
            settings.kafka.bootstrap,
            client_id="thalweg-dlq",
            message_max_bytes=settings.kafka.message_max_bytes + HEADROOM,
            timeout_s=settings.kafka.request_timeout_s,
        ) as producer,
    ):
        yield LetterWriter(producer, Codec(registry))


def _decoded(codec: Codec, record: Inbound) -> Mapping[str, Any] | None:
    try:
        return codec.decode_any(record.value or b"")
    except (DecodeError, RegistryUnavailable):
        return None


def _place(text: str) -> Place:
    try:
        return Place.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no id: they look like dead-letters/0@17") from error


def _since(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_since(text, now_ms())
    except ValueError as error:
        raise typer.BadParameter(f"--since: {error}") from error


def _failed(text: str) -> typer.Exit:
    typer.echo(f"Error: {text}", err=True)
    return typer.Exit(1)
