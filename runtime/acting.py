"""A command that changes something, in the audit: announced before it acts, and how it ended. After it: Kafka.

Before it: `thalweg rebuild promote` and its like. A death in between leaves `begun` without an end, which says just
that: nobody knows how far it came.
"""

from __future__ import annotations

import contextlib
import getpass
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

import typer
from prometheus_client import CollectorRegistry

from runtime.audit import AuditLog, AuditUnavailable, Kind, Outcome
from runtime.clock import now_ms
from runtime.metrics import declare
from runtime.producer import ConfirmedProducer
from runtime.settings import Settings
from schemas.codec import Codec
from schemas.records import AuditEntry
from schemas.registry import Registry


@contextmanager
def acting(
    settings: Settings,
    kind: Kind,
    action: str,
    resource: str,
    *,
    by: str | None = None,
    detail: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Around what a command does. Raises AuditUnavailable before anything is done, if Kafka does not take the entry.

    by: who does it; None, the account and machine. detail: names and numbers, no texts.
    """
    with (
        closing(Registry(settings.registry.url)) as registry,
        ConfirmedProducer(
            settings.kafka.bootstrap, client_id="thalweg-audit", timeout_s=settings.kafka.request_timeout_s
        ) as producer,
        recorded(
            command_log(producer, Codec(registry)), kind, action, resource, tenant=settings.tenant, by=by, detail=detail
        ),
    ):
        yield


def command_log(producer: ConfirmedProducer, codec: Codec) -> AuditLog:
    """The audit for a command that has these already; nobody scrapes its metrics."""
    return AuditLog(producer, codec, declare(CollectorRegistry()).audit_entries)


@contextmanager
def recorded(
    log: AuditLog,
    kind: Kind,
    action: str,
    resource: str,
    *,
    tenant: str,
    by: str | None = None,
    detail: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """As acting, for one who has a log."""

    def said(outcome: Outcome, more: Mapping[str, str]) -> AuditEntry:
        about = {**(detail or {}), **more}
        return AuditEntry(now_ms(), by or account(), action, resource, outcome, tenant, detail=about, kind=kind)

    log.confirm(said(Outcome.BEGUN, {}))
    try:
        yield
    except BaseException as error:
        outcome = Outcome.DONE if isinstance(error, typer.Exit) and error.exit_code == 0 else Outcome.FAILED
        # The act's own error is what the caller must see; that no end was written, the audit shows by itself.
        with contextlib.suppress(AuditUnavailable):
            log.confirm(said(outcome, {"error": type(error).__name__}))
        raise
    log.confirm(said(Outcome.DONE, {}))


def account() -> str:
    """Who runs this process: `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
