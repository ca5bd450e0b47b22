"""`thalweg serve upload`: the process around `app.py`. Before this: settings. After this: callers, Kafka, the blobs.

On SIGTERM it takes no new connections, ends progress streams, lets requests at work finish, flushes the producer, and
exits within about 30 s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from types import FrameType

import httpx
import uvicorn
from fastapi import FastAPI

from connectors.connect import Connect
from connectors.keeper import KeeperThread
from connectors.upload_api.app import create_app
from connectors.upload_api.checks import checks
from connectors.upload_api.ports import Parts
from connectors.upload_api.progress import ProgressTail, UploadProgress
from connectors.upload_api.upload_keys import UploadKeys, UploadKeyTail
from runtime import logs
from runtime.audit import AuditLog
from runtime.blobs import BlobStore
from runtime.clock import now_ms
from runtime.directory import Directory, demo_keys
from runtime.identity.build import token_callers
from runtime.identity.signing import signing_of
from runtime.leftovers import clear
from runtime.metrics import metrics
from runtime.producer import ConfirmedProducer
from runtime.settings import Settings, load_settings
from runtime.web.limits import RateLimits
from runtime.web.serving import server_config
from schemas.codec import Codec
from schemas.registry import Registry

_GRACE_S = 20


def serve_upload(settings: Settings | None = None) -> None:
    """Serve until told to stop. Raises SettingsError; a port that is taken ends the process with status 1 or 3."""
    settings = settings or load_settings()
    logs.configure(settings.log_level)
    config = served_as(settings.upload.host, settings.upload.port)
    server = _Server(config)
    config.app = build(settings, server)
    server.run()


def served_as(host: str, port: int) -> uvicorn.Config:
    """How uvicorn serves the app, which is still to be set."""
    return server_config("unused", host, port, keep_alive_s=30, grace_s=_GRACE_S)


class _Server(uvicorn.Server):
    """Knows that it was told to stop before uvicorn waits for streams that would never end by themselves."""

    told_to_stop = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came."""
        self.told_to_stop = True
        super().handle_exit(sig, frame)


def build(settings: Settings, server: _Server | None = None) -> FastAPI:
    """The app with its real parts, which start and stop with it."""
    registry = Registry(settings.registry.url)
    codec = Codec(registry)
    producer = ConfirmedProducer(
        settings.kafka.bootstrap,
        client_id="thalweg-upload",
        message_max_bytes=settings.kafka.message_max_bytes,
        timeout_s=settings.kafka.request_timeout_s,
    )
    directory = Directory(settings.kafka.bootstrap, codec, producer=producer, own_keys=demo_keys(settings))
    progress = UploadProgress()
    tail = ProgressTail(settings.kafka.bootstrap, codec, progress, now_ms)
    keys = UploadKeys()
    key_tail = UploadKeyTail(settings.kafka.bootstrap, codec, keys)
    blobs = BlobStore(settings.blobs_url)
    audit = AuditLog(producer, codec, metrics().audit_entries)
    keeper = KeeperThread(Connect(settings.connect.url, timeout_s=5, deadline_s=5))
    parts = Parts(
        sender=producer,
        encoder=codec,
        blobs=blobs,
        bases=directory,
        progress=progress,
        receipts=tail.receipts,
        spool=settings.spool,
        max_bytes=settings.upload.max_bytes,
        now_ms=now_ms,
        stopping=lambda: server is not None and server.told_to_stop,
        keys=keys,
        keys_ready=lambda: key_tail.caught_up,
        key_required=settings.upload.require_idempotency_key,
    )

    issuers = httpx.AsyncClient()  # fetches the identity provider's keys

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        await asyncio.to_thread(clear, settings.spool, "*.part")
        await asyncio.to_thread(blobs.clear_leftovers)
        audit.start()
        directory.start()
        tail.start()
        key_tail.start()
        keeper.start()
        try:
            yield
        finally:
            await asyncio.to_thread(keeper.close)
            tail.close()
            key_tail.close()
            directory.close()
            await issuers.aclose()
            await asyncio.to_thread(audit.close)
            await asyncio.to_thread(producer.close)

    return create_app(
        parts,
        keys=directory,
        checks=checks(directory, tail, key_tail, blobs, registry),
        registry=metrics().registry,
        http_requests=metrics().http_requests,
        version=_version(),
        log=audit,
        web=settings.web,
        rates=RateLimits(settings.limits, metrics()),
        tokens=token_callers(settings, directory.state, signing_of(settings), issuers),
        lifespan=lifespan,
    )


def _version() -> str:
    try:
        return version("thalweg")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
