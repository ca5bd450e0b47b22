"""The upload API with its ports answered in memory, and a client that speaks HTTP to it without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from connectors.upload_api.app import create_app
from connectors.upload_api.ports import Parts
from connectors.upload_api.progress import UploadProgress
from connectors.upload_api.upload_keys import UploadKeys
from runtime.access import ApiKey, KnowledgeBase, Role, Scope, digest
from runtime.blobs import BlobStore
from runtime.metrics import declare
from runtime.producer import Delivery, DeliveryFailed, Outgoing
from runtime.progress import Accepted, Progress
from runtime.settings import Limits
from runtime.web.limits import RateLimits
from schemas.records import AccessEntry, Event, Receipt, ReceiptStage, Record, Upload, UploadKey, UploadKeyStep
from tests.support.fake_audit import FakeAudit

ADMIN, EDITOR, VIEWER, QUERY, OTHER = "tw_admin", "tw_editor", "tw_viewer", "tw_query", "tw_other"
TEXT = b"The river carries fine gravel toward the delta.\n"


class Log:
    """Kafka: every record sent, in order, read by all readers; fails as told; each send waits while `gate` is closed.

    failure_of fails one topic only.
    """

    def __init__(self) -> None:
        self.records: list[tuple[str, Record]] = []
        self.failure: DeliveryFailed | None = None
        self.failure_of: dict[str, DeliveryFailed] = {}
        self.readers: list[Callable[[Record, Delivery], None]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()
        self._encoded: dict[bytes, Record] = {}

    def encode(self, topic: str, record: Record) -> bytes:
        name = f"{topic}#{len(self._encoded)}".encode()
        self._encoded[name] = record
        return name

    async def send_async(self, records: Iterable[Outgoing]) -> list[Delivery]:
        self.waiting.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        deliveries = []
        for outgoing in records:
            assert outgoing.value is not None
            record = self._encoded[outgoing.value]
            assert outgoing.key == record.key.encode()
            if outgoing.topic in self.failure_of:
                raise self.failure_of[outgoing.topic]
            offset = len([topic for topic, _ in self.records if topic == outgoing.topic])
            self.records.append((outgoing.topic, record))
            deliveries.append(Delivery(outgoing.topic, 0, offset, 1))
            for reader in self.readers:
                reader(record, deliveries[-1])
        return deliveries

    @property
    def steps(self) -> list[UploadKeyStep]:
        return [record.step for _, record in self.records if isinstance(record, UploadKey)]

    @property
    def uploads(self) -> list[Upload]:
        return [record for _, record in self.records if isinstance(record, Upload)]

    @property
    def events(self) -> list[Event]:
        return [record for _, record in self.records if isinstance(record, Event)]


class People:
    """Keys and knowledge bases."""

    def __init__(self) -> None:
        def key(name: str, scopes: tuple[Scope, ...], roles: dict[str, Role], tenant: str = "acme") -> ApiKey:
            return ApiKey(name, digest(name), name, tenant, scopes, roles)

        self.keys = [
            key(ADMIN, ("ingest", "query", "admin"), {}),
            key(EDITOR, ("ingest",), {"shop": "editor", "new": "editor"}),
            key(VIEWER, ("ingest",), {"shop": "viewer"}),
            key(QUERY, ("query",), {"*": "editor"}),
            key(OTHER, ("ingest", "admin"), {}, tenant="other"),
        ]
        self.bases = {("acme", "shop"), ("other", "shop")}
        self.ready = True
        self.written: list[AccessEntry] = []

    def find_key(self, key_digest: str, now_ms: int) -> ApiKey | None:
        return next((key for key in self.keys if key.digest == key_digest), None)

    def base(self, tenant: str, name: str) -> KnowledgeBase | None:
        return KnowledgeBase(tenant, name) if (tenant, name) in self.bases else None

    async def put_async(self, entry: AccessEntry) -> None:
        base = KnowledgeBase.from_entry(entry)
        self.written.append(entry)
        self.bases.add((base.tenant, base.name))


class Receipts:
    """The topic `receipts`: what the stages say of a position, and who waits. looks: how often somebody began."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.waiting = asyncio.Event()
        self.looks = 0
        self._came = asyncio.Event()

    def end(self, position: str, stage: ReceiptStage, *, reason: str | None = None, tenant: str = "acme") -> None:
        """The input at this position came to its end."""
        self.progress.take(Receipt(tenant, "shop", "d", stage, position, "v", "api", reason=reason, receipt_ms=5))
        self._came.set()

    async def wait(self, positions: Sequence[Accepted], timeout_s: float) -> list[Accepted]:
        self.looks += 1
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while missing := [position for position in positions if not self.progress.ended(position)]:
            self._came.clear()
            self.waiting.set()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._came.wait()
            except TimeoutError:
                break
        return missing


@dataclass
class World:
    """Everything a test looks at."""

    app: FastAPI
    client: httpx.AsyncClient
    log: Log
    people: People
    progress: UploadProgress
    receipts: Receipts
    keys: UploadKeys
    clock: list[int]
    folder: Path
    audit: FakeAudit
    stop: list[bool] = field(default_factory=list)

    @property
    def spooled(self) -> list[Path]:
        spool = self.folder / "spool"
        return list(spool.iterdir()) if spool.exists() else []

    @property
    def blobs(self) -> list[Path]:
        return [path for path in (self.folder / "blobs").rglob("*") if path.is_file()]

    async def upload(
        self,
        content: bytes = TEXT,
        name: str = "report.txt",
        *,
        key: str | None = ADMIN,
        headers: dict[str, str] | None = None,
        query: str = "",
        **fields: str,
    ) -> httpx.Response:
        """POST /v1/uploads."""
        fields.setdefault("knowledge_base", "shop")
        return await self.client.post(
            f"/v1/uploads{query}",
            files={"file": (name, content)},
            data={name: value for name, value in fields.items() if value != ""},
            headers={**({"X-API-Key": key} if key else {}), **(headers or {})},
        )

    def receipt(self, upload_id: str, stage: ReceiptStage, **more: Any) -> None:
        """The pipeline says how far an upload came."""
        upload = next(item for item in self.log.uploads if item.upload_id == upload_id)
        position = f"uploads/0@{self.log.uploads.index(upload)}"
        self.progress.take_receipt(
            Receipt(
                upload.tenant, upload.knowledge_base, upload.document_id, stage, position, "v", "uploads",
                upload_id=upload_id, receipt_ms=5, **more,
            )
        )  # fmt: skip


@asynccontextmanager
async def upload_world(
    folder: Path,
    *,
    max_bytes: int = 100_000,
    stream_limit_s: float = 5,
    log: Log | None = None,
    reads: bool = True,
    key_required: bool = False,
    rates: Limits | None = None,
    **guard: float,
) -> AsyncIterator[World]:
    """A fresh world, or a replica: another one on the same log. Files up to max_bytes are accepted; guard goes to the
    BodyGuard. reads: whether it reads the keys' topic; none reads `uploads` but by itself accepting.
    """
    log, people, progress, receipts, keys = log or Log(), People(), UploadProgress(), Receipts(), UploadKeys()
    stop, clock, audit = list[bool](), [1_000], FakeAudit()

    def read(record: Record, delivery: Delivery) -> None:
        del delivery
        if isinstance(record, UploadKey):
            keys.take(record)

    if reads:
        for topic, record in log.records:
            read(record, Delivery(topic, 0, 0, 1))
        log.readers.append(read)
    metrics = declare(CollectorRegistry())
    parts = Parts(
        sender=log,
        encoder=log,
        blobs=BlobStore(str(folder / "blobs")),
        bases=people,
        progress=progress,
        receipts=receipts,
        spool=folder / "spool",
        max_bytes=max_bytes,
        now_ms=lambda: clock[0],
        stopping=lambda: bool(stop),
        keys=keys,
        keys_ready=lambda: reads,
        key_required=key_required,
        key_timeout_s=0.5,
        patience_s=0.5,
        stream_limit_s=stream_limit_s,
        heartbeat_s=0.05,
    )
    app = create_app(
        parts,
        keys=people,
        checks=[],
        registry=metrics.registry,
        http_requests=metrics.http_requests,
        version="0",
        log=audit,
        rates=None if rates is None else RateLimits(rates, metrics),
        **{"linger_s": 0, **guard},
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://upload") as client:
        yield World(app, client, log, people, progress, receipts, keys, clock, folder, audit, stop)
