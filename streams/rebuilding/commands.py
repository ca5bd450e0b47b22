"""`thalweg rebuild start|status|promote|rollback|prune` and the process behind them, `thalweg worker rebuild`.

Before this: a person. After this: `rebuild.py`, `side_workers.py`. Exit codes: 0 done, 1 refused or a server is away.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.acting import acting
from runtime.audit import Kind
from runtime.settings import Embedding, Settings, load_settings

if TYPE_CHECKING:
    from streams.rebuilding.rebuild import GenerationStatus, Rebuild

rebuild = typer.Typer(no_args_is_help=True, help="Another generation of the index, made by replay beside the live one.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Timeout = Annotated[float, typer.Option(help="Longest wait for each step, in seconds.")]
_SILENT_S = 30.0


@rebuild.command()
def start(
    model: Annotated[
        str | None,
        typer.Option(help="PROVIDER:MODEL or MODEL of the configured provider; left out: the configured model."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new generation; `thalweg worker rebuild` fills it from the topic `documents`, and keeps it fresh."""
    settings = load_settings()
    with _opened(settings) as work, acting(settings, Kind.CONFIGURATION, "rebuild.start", model or "configured model"):
        made = work.start(chosen_model(model, settings.embedding))
    if as_json:
        typer.echo(json.dumps({"generation": made.name, "model": made.model, "chunker": made.chunker}))
        return
    typer.echo(f"made {made.name} ({made.model}, {made.chunker})\nnext: thalweg rebuild status; promote {made.name}")


@rebuild.command()
def status(
    as_json: AsJson = False,
    quick: Annotated[bool, typer.Option("--quick", help="Do not hold the generations against each other.")] = False,
) -> None:
    """Show every generation: state, documents, lag, and how it compares with the live one."""
    with _opened(load_settings()) as work:
        found = work.status(comparing=not quick)
    if as_json:
        typer.echo(json.dumps({"generations": [_plain(item) for item in found]}))
        return
    for item in found:
        typer.echo(_line(item))
        for line in item.comparison.differences if item.comparison else []:
            typer.echo(f"    {line}")


@rebuild.command()
def promote(generation: str, timeout: Timeout = 600.0, as_json: AsJson = False) -> None:
    """Let a generation answer, once it holds all that the live one holds. A second time it changes nothing."""
    settings = load_settings()
    with _opened(settings) as work, acting(settings, Kind.CONFIGURATION, "rebuild.promote", generation):
        work.promote(generation, timeout_s=timeout)
    if as_json:
        typer.echo(json.dumps({"live": generation}))


@rebuild.command()
def rollback(timeout: Timeout = 600.0, as_json: AsJson = False) -> None:
    """Promote the generation that was live before: it has been kept fresh."""
    settings = load_settings()
    with _opened(settings) as work, acting(settings, Kind.CONFIGURATION, "rebuild.rollback", "live generation"):
        name = work.rollback(timeout_s=timeout)
    if as_json:
        typer.echo(json.dumps({"live": name}))


@rebuild.command()
def prune(generation: str, as_json: AsJson = False) -> None:
    """Delete a generation that is not live."""
    settings = load_settings()
    with _opened(settings) as work, acting(settings, Kind.CONFIGURATION, "rebuild.prune", generation):
        work.prune(generation)
    typer.echo(json.dumps({"deleted": generation}) if as_json else f"deleted {generation}")


def chosen_model(text: str | None, settings: Embedding) -> Embedding:
    """The settings with the model that `--model` names. Raises EmbeddingMisconfigured."""
    from runtime.embedding.known_models import DEFAULT_MODEL
    from runtime.embedding.select import with_model

    if text is None:
        return settings
    provider, found, model = text.partition(":")
    if not found or provider not in DEFAULT_MODEL:
        # Some servers' models have a colon in their names.
        provider, model = settings.provider, text
    if (provider, model) == (settings.provider, settings.model or DEFAULT_MODEL[settings.provider]):
        return settings
    return with_model(settings, provider, model)


def keep_side_workers() -> None:
    """Run a worker for each generation that is not live, until a signal ends it; `thalweg worker rebuild`."""
    from runtime.logs import configure
    from runtime.metrics import metrics
    from runtime.topics import BrokerUnavailable, Topics
    from runtime.weaviate import AWAY, connect
    from streams import generations
    from streams.adapters import probe
    from streams.pipeline import side_group
    from streams.rebuilding import side_workers

    settings = load_settings()
    configure(settings.log_level)
    broker, stopping, seen = Topics(settings.kafka.bootstrap), threading.Event(), {"at": 0.0}
    told: dict[str, str] = {}

    def forget(name: str) -> bool:
        try:
            return broker.delete_group(side_group(name))
        except BrokerUnavailable:
            return False

    def ready() -> str | None:
        return None if time.monotonic() - seen["at"] < _SILENT_S else "the generations were not read lately"

    with connect(settings.weaviate) as client:

        def wanted() -> tuple[list[str], str] | None:
            try:
                there = generations.standing(client)
                unfit = {n: generations.can_be_fed(g, settings.embedding) for n, g in there.others.items()}
            except (*AWAY, generations.NoLiveGeneration) as error:
                side_workers.log.warning("generations_unknown", reason=str(error)[:200])
                return None
            for name, why in unfit.items():
                if why is not None and told.get(name) != why:
                    side_workers.log.warning("generation_is_not_fed", generation=name, reason=why)
                    told[name] = why
            return [name for name, why in unfit.items() if why is None], there.live

        def looked() -> None:
            seen["at"] = time.monotonic()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        port = probe.serve(settings.metrics.host, settings.metrics.port, metrics().registry, ready)
        side_workers.log.info("rebuild_worker_started", metrics_port=port)
        workers = side_workers.SideWorkers(side_workers.spawn, forget)
        side_workers.keep(workers, wanted, stopping, looked=looked)


@contextmanager
def _opened(settings: Settings) -> Iterator[Rebuild]:
    from runtime.topics import Topics
    from runtime.weaviate import connect
    from streams.rebuilding.rebuild import Rebuild

    with connect(settings.weaviate) as client:
        broker = Topics(settings.kafka.bootstrap, timeout_s=settings.kafka.request_timeout_s)
        yield Rebuild(client, broker, lambda text: typer.echo(text, err=True))


def _plain(item: GenerationStatus) -> dict[str, Any]:
    generation, held = item.generation, item.comparison
    return {
        "name": generation.name,
        "state": item.state,
        "model": generation.model,
        "chunker": generation.chunker,
        "made": datetime.fromtimestamp(item.made_ms / 1000, UTC).isoformat() if item.made_ms else None,
        "lag": item.lag,
        "workers": list(item.workers),
        "documents": item.documents,
        "comparison": None if held is None else {**asdict(held), "agrees": held.agrees},
    }


def _line(item: GenerationStatus) -> str:
    held = item.comparison
    told = "" if held is None else ", agrees with the live one" if held.agrees else f", {held.differing} differ"
    return (
        f"{item.generation.name}  {item.state:8}  {item.documents} documents, lag {item.lag}{told}  "
        f"({item.generation.model}, {item.generation.chunker})"
    )
