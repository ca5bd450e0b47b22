"""Two replicas of the upload API on one real Kafka: an Idempotency-Key means one request, whichever of them it reaches.

The last test asks the whole product whether one file, uploaded fifty times at once, becomes one document.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from connectors.upload_api.app import create_app
from connectors.upload_api.ports import Parts
from connectors.upload_api.progress import ProgressTail, UploadProgress
from connectors.upload_api.upload_keys import UploadKeys, UploadKeyTail
from runtime.blobs import BlobStore
from runtime.clock import now_ms
from runtime.metrics import declare
from runtime.producer import ConfirmedProducer
from runtime.topics import Topics
from schemas.codec import Codec
from tests.integration.servers import RealServer, bootstrap_of
from tests.support.fake_audit import FakeAudit
from tests.support.lookup import LocalLookup
from tests.support.product import Product
from tests.unit.connectors.upload_api.world import ADMIN, People

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

READ_S = 60.0
TEXT = b"The river carries fine gravel toward the delta.\n"


@dataclass
class Replica:
    """One upload API with its own producer, its own memory, and the blobs that all share."""

    client: httpx.AsyncClient
    folder: Path

    async def upload(self, key: str | None, content: bytes = TEXT, name: str = "report.txt") -> httpx.Response:
        headers = {"X-API-Key": ADMIN, **({"Idempotency-Key": key} if key else {})}
        files = {"file": (name, content)}
        return await self.client.post("/v1/uploads", files=files, data={"knowledge_base": "shop"}, headers=headers)


@asynccontextmanager
async def replica(bootstrap: str, folder: Path, name: str, *, timeout_s: float = 20.0) -> AsyncIterator[Replica]:
    codec, progress, keys = Codec(LocalLookup()), UploadProgress(), UploadKeys()
    producer = await asyncio.to_thread(ConfirmedProducer, bootstrap, client_id=name, timeout_s=timeout_s)
    tail = ProgressTail(bootstrap, codec, progress, now_ms, back_ms=3_600_000)
    key_tail = UploadKeyTail(bootstrap, codec, keys)
    registry, people = CollectorRegistry(), People()
    parts = Parts(
        sender=producer,
        encoder=codec,
        blobs=BlobStore(str(folder / "blobs")),
        bases=people,
        progress=progress,
        receipts=tail.receipts,
        spool=folder / f"spool-{name}",
        max_bytes=1_000_000,
        now_ms=now_ms,
        keys=keys,
        keys_ready=lambda: key_tail.caught_up,
        key_timeout_s=timeout_s,
    )
    metrics = declare(registry)
    app = create_app(
        parts,
        keys=people,
        checks=[],
        registry=registry,
        http_requests=metrics.http_requests,
        version="0",
        log=FakeAudit(),
    )
    tail.start()
    key_tail.start()
    try:
        deadline = time.monotonic() + READ_S
        while not (key_tail.caught_up and tail.caught_up):
            assert time.monotonic() < deadline, "the topics were not read"
            await asyncio.sleep(0.05)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://upload", timeout=120) as client:
            yield Replica(client, folder)
    finally:
        key_tail.close()
        tail.close()
        await asyncio.to_thread(producer.close)


@pytest.fixture
def bootstrap(kafka_server: RealServer) -> str:
    return bootstrap_of(kafka_server, "uploads", "upload-keys", "receipts")


@pytest_asyncio.fixture
async def pair(bootstrap: str, tmp_path: Path) -> AsyncIterator[tuple[Replica, Replica]]:
    async with AsyncExitStack() as open_:
        first = await open_.enter_async_context(replica(bootstrap, tmp_path, "first"))
        second = await open_.enter_async_context(replica(bootstrap, tmp_path, "second"))
        yield first, second


def accepted_records(bootstrap: str) -> int:
    """How many uploads the topic ever took."""
    return sum(Topics(bootstrap).offsets(["uploads"]).values())


def files(folder: Path) -> list[Path]:
    """All files below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


async def insist(one: Replica, key: str, content: bytes = TEXT) -> httpx.Response:
    """Repeat a request while the first is at work, as a client does."""
    deadline = time.monotonic() + READ_S
    while (answer := await one.upload(key, content)).status_code == 409:
        assert time.monotonic() < deadline, answer.text
        await asyncio.sleep(0.1)
    return answer


async def test_one_request_sent_to_both_is_one_upload(pair: tuple[Replica, Replica], bootstrap: str) -> None:
    before = accepted_records(bootstrap)
    for _ in range(20):
        key = str(uuid.uuid4())
        answers = await asyncio.gather(*(insist(one, key) for one in pair))
        assert [answer.status_code for answer in answers] == [202, 202]
        assert answers[0].json() == answers[1].json()
    assert accepted_records(bootstrap) - before == 20


async def test_two_requests_under_one_key_are_one_upload_and_one_refusal(
    pair: tuple[Replica, Replica], bootstrap: str
) -> None:
    before = accepted_records(bootstrap)
    for number in range(20):
        key, contents = str(uuid.uuid4()), (f"one {number}".encode(), f"other {number}".encode())
        answers = await asyncio.gather(
            *(insist(one, key, content) for one, content in zip(pair, contents, strict=True))
        )
        assert sorted(answer.status_code for answer in answers) == [202, 422]
        lost = next(answer for answer in answers if answer.status_code == 422)
        assert lost.json()["type"] == "/problems/idempotency-key-reused"
        kept, gone = contents if answers[0].status_code == 202 else contents[::-1]
        for content, there in ((kept, True), (gone, False)):
            digest = hashlib.sha256(content).hexdigest()
            assert any(path.name == digest for path in files(pair[0].folder)) is there
    assert accepted_records(bootstrap) - before == 20


async def test_a_replica_started_later_knows_what_was_answered(
    pair: tuple[Replica, Replica], bootstrap: str, tmp_path: Path
) -> None:
    key = str(uuid.uuid4())
    first = await insist(pair[0], key)
    async with replica(bootstrap, tmp_path, "later") as later:
        assert (await later.upload(key)).json() == first.json()
        assert (await later.upload(key, b"other")).status_code == 422


async def test_while_kafka_is_away_nothing_is_accepted_and_then_it_goes_on(
    kafka_server: RealServer, bootstrap: str, tmp_path: Path
) -> None:
    key = str(uuid.uuid4())
    async with replica(bootstrap, tmp_path, "short", timeout_s=3) as one:
        kafka_server.kill()
        try:
            answer = await one.upload(key)
        finally:
            kafka_server.start()
        assert answer.status_code == 503, answer.text
        assert answer.headers["retry-after"]
        assert files(tmp_path) == []

        async def again() -> httpx.Response:
            deadline = time.monotonic() + READ_S
            while (found := await one.upload(key)).status_code in (409, 503):
                assert time.monotonic() < deadline, found.text
                await asyncio.sleep(0.5)
            return found

        found = await again()
        assert found.status_code == 202, found.text
        assert (await one.upload(key)).json() == found.json()


def test_one_file_uploaded_fifty_times_at_once_is_one_document(product: Product) -> None:
    base, name = f"fifty-{uuid.uuid4().hex[:8]}", "report.txt"
    product.client.publish("first", "It makes the knowledge base.", base)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: product.client.upload(name, TEXT, base), range(50)))
        ends = list(pool.map(lambda answer: product.client.upload_events(answer["upload_id"], 120)[-1][0], answers))

    assert {answer["document_id"] for answer in answers} == {name}
    assert set(ends) == {"searchable"}
    hits = [hit for hit in product.client.search("gravel", base, limit=50) if hit["document_id"] == name]
    assert len({hit["chunk_id"] for hit in hits}) == len(hits) == 1
    blobs = Path(product.settings.blobs_url)
    assert len(list(blobs.rglob(hashlib.sha256(TEXT).hexdigest()))) == 1
