"""The commands of this package: `worker`, `generation`, `lag-exporter`. Mounted by `thalweg`."""

from __future__ import annotations

import json
import signal
from typing import Annotated

import typer

from runtime.logs import configure
from runtime.settings import load_settings
from streams.pipeline import STAGES
from streams.rebuilding.commands import keep_side_workers

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
    if _stage.name != "index":
        _command(_stage.name)


@worker.command("index")
def _index(
    name: _NAME = None,
    generation: Annotated[
        str | None, typer.Option("--generation", help="Feed this generation, which is not live; `worker rebuild` does.")
    ] = None,
) -> None:
    """Run a worker of the stage index."""
    from streams.bootstrap import work

    settings = load_settings()
    configure(settings.log_level)
    work("index", settings, instance=name, generation=generation)


worker.command("rebuild")(keep_side_workers)


@generation.callback()
def _group() -> None:
    """Generations of the index."""


@generation.command("ensure")
def ensure(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Make the first generation and let it go live; if one is live, leave it, whatever model made it."""
    from runtime.clock import now_ms
    from runtime.weaviate import connect
    from streams import generations

    settings = load_settings()
    wanted = generations.wanted_generation(settings.embedding)
    with connect(settings.weaviate) as client:
        live = generations.ensure(client, wanted, made_ms=now_ms())
    if (live.model, live.chunker) != (wanted.model, wanted.chunker):
        typer.echo(
            f"the live generation {live.name} was made with {live.model} and {live.chunker}, and stays; the settings "
            f"name {wanted.model} and {wanted.chunker}: `thalweg rebuild start` makes a generation with them",
            err=True,
        )
    typer.echo(
        json.dumps({"generation": live.name, "model": live.model}) if as_json else f"live: {live.name} ({live.model})"
    )


@generation.command("sweep")
def sweep_generations(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Mark what dead writers left where nobody follows it, in every generation; for a nightly cron job.

    No reader sees any of it: a sweep gives space and order back. It may run beside the workers, and may be interrupted.
    """
    from runtime.clock import now_ms
    from runtime.weaviate import WeaviateUnavailable, connect
    from streams import generations
    from streams.adapters.weaviate_index import WeaviateIndex
    from streams.ports import TemporaryFailure
    from streams.steps.sweep import sweep

    settings = load_settings()
    found: list[dict[str, object]] = []
    with connect(settings.weaviate) as client:
        for made in generations.standing(client).generations.values():
            index = WeaviateIndex(client, made)
            for tenant in sorted(client.collections.use(made.manifests).tenants.get()):
                through = [0]

                def looked(
                    count: int, through: list[int] = through, tenant: str = tenant, name: str = made.name
                ) -> None:
                    through[0] = count
                    typer.echo(f"\r{name} {tenant}: {count} documents", err=True, nl=False)

                try:
                    marked = sweep(tenant, index=index, at_ms=now_ms(), looked=looked)
                except TemporaryFailure as error:
                    typer.echo(err=True)
                    raise WeaviateUnavailable(f"{error}; the next sweep begins anew") from error
                typer.echo(err=True)
                found.append({"generation": made.name, "tenant": tenant, "documents": through[0], "marked": marked})
    if as_json:
        typer.echo(json.dumps(found))
        return
    for item in found:
        typer.echo("{generation} {tenant}: {documents} documents looked at, {marked} marks set".format(**item))


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
