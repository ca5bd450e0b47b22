"""`thalweg retention plan|sweep`: what knowledge bases no longer keep. Before this: a person or a cron job.

After this: `steps/retention.py`. Exit codes: 0 done, 1 a server is away or the index is behind.
"""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from runtime.acting import acting
from runtime.audit import Kind
from runtime.settings import Settings, load_settings

app = typer.Typer(no_args_is_help=True, help="What knowledge bases keep no longer, by their policy's retention_days.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def plan(as_json: AsJson = False) -> None:
    """Count the documents that a sweep would delete now; change nothing."""
    _show(_swept(load_settings(), delete=False), "over", as_json=as_json)


@app.command()
def sweep(
    every: Annotated[
        float | None, typer.Option(min=60, help="Sweep again and again, so many seconds apart; left out: once.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Delete documents whose last change is longer ago than their knowledge base keeps them.

    It may run beside the workers and beside another sweep, and may be interrupted: the next one begins anew.
    """
    from runtime.weaviate import WeaviateUnavailable

    while True:
        try:
            settings = load_settings()
            with acting(settings, Kind.DATA_ACCESS, "retention.sweep", "documents that are kept no longer"):
                found = _swept(settings, delete=True)
            _show(found, "deleted", as_json=as_json)
        except WeaviateUnavailable as error:
            if every is None:
                raise
            typer.echo(f"thalweg: {error}", err=True)
        if every is None:
            return
        time.sleep(every)


def _swept(settings: Settings, *, delete: bool) -> dict[str, dict[str, int]]:
    """By tenant and knowledge base, how many documents are over. Raises WeaviateUnavailable, BrokerUnavailable."""
    from runtime.clock import now_ms
    from runtime.directory import Directory
    from runtime.producer import ConfirmedProducer
    from runtime.topics import BrokerUnavailable, Topics
    from runtime.weaviate import WeaviateUnavailable, connect
    from schemas.codec import Codec
    from schemas.registry import Registry
    from streams import generations
    from streams.adapters.outbox import KafkaOutbox
    from streams.adapters.retention_log import KafkaRetentionLog
    from streams.adapters.weaviate_index import WeaviateIndex
    from streams.ports import TemporaryFailure
    from streams.steps.retention import sweep as swept

    kafka, codec = settings.kafka, Codec(Registry(settings.registry.url))
    directory = Directory(kafka.bootstrap, codec)
    directory.start()
    try:
        if not directory.wait_ready(kafka.request_timeout_s):
            raise BrokerUnavailable("the topic `access` could not be read: run `thalweg topics apply`")
        with (
            ConfirmedProducer(kafka.bootstrap, client_id="thalweg-retention") as producer,
            connect(settings.weaviate) as client,
        ):
            live = generations.live(client)
            outbox = KafkaOutbox(producer, codec, stage="retention")
            log = KafkaRetentionLog(kafka.bootstrap, Topics(kafka.bootstrap), outbox, codec) if delete else None
            found: dict[str, dict[str, int]] = {}
            for tenant in sorted(client.collections.use(live.manifests).tenants.get()):
                days = {
                    base.name: base.policy.retention_days
                    for base in directory.bases(tenant)
                    if base.policy.retention_days is not None
                }
                if days:
                    index = WeaviateIndex(client, live)
                    found[tenant] = swept(tenant, days, index=index, log=log, now_ms=now_ms())
            return found
    except TemporaryFailure as error:
        raise WeaviateUnavailable(f"{error}; the next sweep begins anew") from error
    finally:
        directory.close()


def _show(found: dict[str, dict[str, int]], done: str, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found))
        return
    for tenant, bases in found.items():
        for base, count in sorted(bases.items()):
            typer.echo(f"{tenant}/{base}: {count} {done}")
    if not found:
        typer.echo("no knowledge base has a retention: `thalweg access bases` sets one")
