"""The commands of this package: `worker`, `generation ensure`, `lag-exporter`. Mounted by `thalweg`."""

from __future__ import annotations

import json
import signal
from typing import Annotated

import typer

from runtime.logs import configure
from runtime.settings import load_settings
from streams.pipeline import STAGES

worker = typer.Typer(no_args_is_help=True, help="Run one worker of a stage until a signal ends it.")
generation = typer.Typer(no_args_is_help=True, help="Generations of the index.")

_NAME = Annotated[str | None, typer.Option("--name", help="This worker's name in its group, the same after a restart.")]


def _command(stage: str) -> None:
    def run(name: _NAME = None) -> None:
        from streams.bootstrap import work

        settings = load_settings()
        configure(settings.log_level)
        work(stage, settings, instance=name)

    run.__doc__ = f"Run a worker of the stage {stage}."
    worker.command(stage)(run)


for _stage in STAGES:
    _command(_stage.name)


@generation.callback()
def _group() -> None:
    """Generations of the index."""


@generation.command("ensure")
def ensure(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Make the first generation and let it go live; if one is live, check that the configured model made it.

    Exit codes: 0 a fitting generation is live, 1 the live one was made with another model.
    """
    from runtime.weaviate import connect
    from streams import bootstrap, generations

    settings = load_settings()
    with connect(settings.weaviate) as client:
        generations.ensure(client, bootstrap.wanted_generation(settings))
        try:
            live = bootstrap.live_generation(client, settings)
        except bootstrap.WrongModel as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from error
    typer.echo(
        json.dumps({"generation": live.name, "model": live.model}) if as_json else f"live: {live.name} ({live.model})"
    )


def lag_exporter() -> None:
    """Serve the queue depth of every stage at /metrics, until a signal ends it."""
    from runtime.metrics import metrics
    from runtime.topics import Topics
    from schemas.codec import Codec
    from schemas.registry import Registry
    from streams.adapters import probe
    from streams.adapters.sources import SourceList
    from streams.lag_exporter import LagExporter

    settings = load_settings()
    configure(settings.log_level)
    topics = Topics(settings.kafka.bootstrap)
    sources = SourceList(settings.kafka.bootstrap, Codec(Registry(settings.registry.url)), topics)
    sources.start(settings.kafka.request_timeout_s)
    exporter = LagExporter(topics, metrics(), sources.topics_now, interval_s=settings.lag_exporter.interval_s)
    probe.serve(settings.lag_exporter.host, settings.lag_exporter.port, metrics().registry, exporter.ready)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: exporter.stop())
    exporter.run()
    sources.close()
