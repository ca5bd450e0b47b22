"""What the APIs keep in memory of Kafka: keys and knowledge bases, and how far the index has come."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from connectors.definitions import write_definition
from runtime.access import ApiKey, KnowledgeBase, digest
from runtime.access_entries import KeyRevoked
from runtime.directory import Directory
from runtime.freshness import Freshness
from runtime.producer import ConfirmedProducer, Outgoing
from runtime.progress import Accepted
from runtime.topics import Topics
from schemas.codec import Codec
from schemas.records import AccessEntry, Receipt, ReceiptStage, SourceDefinition
from schemas.registry import RegistryUnavailable
from schemas.source import parse_source
from streams.adapters.sources import SourceList
from streams.ports import TemporaryFailure
from streams.steps.capture import CapturedSource
from tests.integration.servers import RealServer, bootstrap_of
from tests.support.client import eventually
from tests.support.lookup import LocalLookup

pytestmark = pytest.mark.real


@pytest.fixture
def bootstrap(kafka_server: RealServer) -> str:
    return bootstrap_of(kafka_server, "access", "receipts", "sources")


def key_named(name: str, *, expires_ms: int | None = None) -> ApiKey:
    return ApiKey(name, digest(f"tw_{name}"), name, "acme", ("query",), {"*": "viewer"}, (), expires_ms)


def test_what_is_put_is_known_at_once_and_to_a_later_process_too(bootstrap: str, producer: ConfirmedProducer) -> None:
    codec = Codec(LocalLookup())
    directory = Directory(bootstrap, codec, producer=producer)
    directory.start()
    assert directory.wait_ready(30)

    directory.put(key_named("ann").entry())
    directory.put(KnowledgeBase("acme", "handbook", "nobody").entry())
    directory.put(key_named("old", expires_ms=50).entry())
    directory.put(key_named("bob").entry())
    directory.put(KeyRevoked("bob").entry())
    directory.put(key_named("bob").entry())  # a replica that did not know yet writes what it remembers
    directory.put(key_named("eve").entry())
    directory.put(AccessEntry("key", "eve", "{}", deleted=True))

    later = Directory(bootstrap, codec)
    later.start()
    assert later.wait_ready(30)
    for known in (directory, later):
        assert known.find_key(digest("tw_ann"), 100) == key_named("ann")
        assert known.find_key(digest("tw_old"), 49) is not None
        for gone in ("old", "bob", "eve", "stranger"):
            assert known.find_key(digest(f"tw_{gone}"), 100) is None
        assert known.bases("acme") == [KnowledgeBase("acme", "handbook", "nobody")]
        assert known.base("acme", "handbook") == KnowledgeBase("acme", "handbook", "nobody")
        assert known.bases("globex") == []
        known.close()


def test_keys_stay_known_while_kafka_is_away_and_new_ones_come_when_it_is_back(
    kafka_server: RealServer, bootstrap: str, producer: ConfirmedProducer
) -> None:
    codec = Codec(LocalLookup())
    writer, reader = Directory(bootstrap, codec, producer=producer), Directory(bootstrap, codec)
    for directory in (writer, reader):
        directory.start()
        assert directory.wait_ready(30)
    writer.put(key_named("ann").entry())
    eventually(lambda: reader.find_key(digest("tw_ann"), 1) is not None)
    assert reader.connected

    kafka_server.kill()
    eventually(lambda: not reader.connected)
    assert reader.ready
    assert reader.find_key(digest("tw_ann"), 1) is not None

    kafka_server.start()
    eventually(lambda: reader.connected)
    writer.put(key_named("carl").entry())
    eventually(lambda: reader.find_key(digest("tw_carl"), 1) is not None)
    writer.close()
    reader.close()


def test_a_source_applied_a_moment_ago_is_in_the_list_and_an_absent_broker_is_told(
    kafka_server: RealServer, bootstrap: str, producer: ConfirmedProducer
) -> None:
    codec = Codec(LocalLookup())
    listed = SourceList(bootstrap, codec, Topics(bootstrap, timeout_s=2))
    listed.start(30)
    for column in [f"column{number}" for number in range(20)]:
        text = f"name: rows\nknowledge_base: kb\ntable: rows\ntext: {column}\n"
        write_definition(producer, codec, SourceDefinition("acme", "rows", text, 1))

        (found,) = listed.now().values()
        assert found == CapturedSource("acme", parse_source(text))

    kafka_server.kill()
    with pytest.raises(TemporaryFailure):
        listed.now()
    kafka_server.start()
    eventually(lambda: _named(listed) == ["rows"])
    listed.close()


def _named(listed: SourceList) -> list[str]:
    try:
        return [source.spec.name for source in listed.now().values()]
    except TemporaryFailure:
        return []


def test_an_entry_that_is_none_does_not_stop_the_reader(bootstrap: str, producer: ConfirmedProducer) -> None:
    directory = Directory(bootstrap, Codec(LocalLookup()), producer=producer)
    directory.start()
    producer.send([Outgoing("access", b"key/odd", b"not avro")])

    directory.put(key_named("ann").entry())

    assert directory.find_key(digest("tw_ann"), 1) is not None
    directory.close()


def receipt(codec: Codec, offset: int, stage: ReceiptStage) -> Outgoing:
    record = Receipt(
        "acme", "handbook", "d", stage, f"uploads/2@{offset}", "v", "uploads", source_ms=1000, receipt_ms=3000 + offset
    )
    return Outgoing("receipts", record.key.encode(), codec.encode("receipts", record))


async def test_a_wait_ends_with_the_terminal_receipt_and_not_before(
    bootstrap: str, producer: ConfirmedProducer
) -> None:
    codec = Codec(LocalLookup())
    freshness = Freshness(bootstrap, codec, lambda: int(time.time() * 1000))
    freshness.start()
    wanted = [Accepted("uploads", 2, 8)]
    await producer.send_async([receipt(codec, 7, ReceiptStage.INDEXED), receipt(codec, 8, ReceiptStage.EMBEDDED)])
    assert await freshness.wait([Accepted("uploads", 2, 7)], 30) == []

    assert await freshness.wait(wanted, 0.3) == wanted

    waiting = asyncio.create_task(freshness.wait(wanted, 30))
    await producer.send_async([receipt(codec, 8, ReceiptStage.SUPERSEDED)])
    started = time.monotonic()
    assert await waiting == []
    assert time.monotonic() - started < 5
    assert freshness.progress.newest("acme") == "uploads/2@8"
    assert freshness.progress.freshness("acme", 0) == (2.007, 2.007, 1)
    assert freshness.connected
    freshness.close()


class AwayAtFirst(LocalLookup):
    """A registry that does not answer the first questions, as while it starts beside us."""

    def __init__(self, questions: int) -> None:
        super().__init__()
        self.left = questions

    def schema_by_id(self, schema_id: int) -> dict[str, Any]:
        if self.left:
            self.left -= 1
            raise RegistryUnavailable("away")
        return super().schema_by_id(schema_id)


def test_what_comes_while_the_registry_is_away_is_not_forgotten(bootstrap: str, producer: ConfirmedProducer) -> None:
    writer = Directory(bootstrap, Codec(LocalLookup()), producer=producer)
    writer.start()
    writer.put(KnowledgeBase("acme", "kept").entry())
    registry = AwayAtFirst(3)
    later = Directory(bootstrap, Codec(registry))
    later.start()

    eventually(lambda: later.ready)

    assert registry.left == 0
    assert later.base("acme", "kept") is not None
    writer.close()
    later.close()
