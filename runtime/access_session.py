"""What every `thalweg access` command stands on: the topic read, its change announced in the audit. After it: Kafka.

Before it: a terminal. Exit codes: 0 done, 1 refused or a server is away, 2 wrong usage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import typer

from runtime.access_changes import AccessChanges, ChangeRefused
from runtime.acting import command_log, recorded
from runtime.audit import AuditLog, Kind
from runtime.clock import now_ms
from runtime.directory import Directory
from runtime.producer import ConfirmedProducer
from runtime.settings import Settings, load_settings
from runtime.topics import BrokerUnavailable
from schemas.codec import Codec
from schemas.registry import Registry

T = TypeVar("T")


@dataclass(frozen=True)
class AccessSession:
    """What a command works with: it acts for the tenant of the settings."""

    settings: Settings
    changes: AccessChanges
    log: AuditLog

    @property
    def tenant(self) -> str:
        """Whose keys, users and knowledge bases."""
        return self.settings.tenant

    def change(self, action: str, resource: str, do: Callable[[], T], **detail: str) -> T:
        """Do it, announced in the audit. Ends the command with code 1 if it is refused."""
        try:
            with recorded(self.log, Kind.AUTHORIZATION, action, resource, tenant=self.tenant, detail=detail):
                return do()
        except ChangeRefused as error:
            raise failed(f"{error} {error.fix}".strip()) from error


def access_session(context: typer.Context) -> AbstractContextManager[AccessSession]:
    """The session of the command that runs: the one that the root context's `obj` opens, else one of Kafka.

    Raises BrokerUnavailable, DeliveryFailed, NotReadBack and the registry's errors.
    """
    given: Callable[[], AbstractContextManager[AccessSession]] | None = context.find_root().obj
    return given() if given is not None else _of_kafka()


@contextmanager
def _of_kafka() -> Iterator[AccessSession]:
    """The topic, read whole."""
    settings = load_settings()
    timeout_s = settings.kafka.request_timeout_s
    with (
        closing(Registry(settings.registry.url)) as registry,
        ConfirmedProducer(settings.kafka.bootstrap, client_id="thalweg-access", timeout_s=timeout_s) as producer,
    ):
        codec = Codec(registry)
        directory = Directory(settings.kafka.bootstrap, codec, producer=producer, timeout_s=timeout_s)
        directory.start()
        try:
            if not directory.wait_ready(timeout_s):
                raise BrokerUnavailable("the topic `access` could not be read: run `thalweg topics apply`")
            changes = AccessChanges(directory, now_ms, longest_key_days=settings.access.longest_key_days)
            yield AccessSession(settings, changes, command_log(producer, codec))
        finally:
            directory.close()


def show(data: Mapping[str, Any], *, as_json: bool, lines: Sequence[str]) -> None:
    """Print the data as JSON, or these lines."""
    if as_json:
        typer.echo(json.dumps(data, ensure_ascii=False))
        return
    for line in lines:
        typer.echo(line)


def failed(text: str) -> typer.Exit:
    """Say why, for `raise`."""
    typer.echo(f"Error: {text}", err=True)
    return typer.Exit(1)
