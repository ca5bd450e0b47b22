"""Policies of knowledge bases on real servers: what is masked is in no topic but the first, what is over is deleted."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from runtime import clock
from runtime.access import KnowledgeBase
from runtime.directory import Directory
from runtime.privacy.masking import Masker
from runtime.privacy.policy import Policy
from runtime.producer import ConfirmedProducer, Outgoing
from runtime.topic_read import records_since
from runtime.topics import Topics
from schemas.codec import Codec
from schemas.lanes import Lane
from schemas.records import DocumentChange, Operation, Position
from streams import retention_commands
from streams.adapters.outbox import KafkaOutbox
from streams.adapters.policies import PolicyList
from streams.adapters.retention_log import KafkaRetentionLog
from streams.ports import TemporaryFailure
from streams.steps.retention import STREAM
from tests.integration.servers import RealServer, bootstrap_of
from tests.property.test_index_machine import make_change
from tests.support.client import eventually
from tests.support.lookup import LocalLookup
from tests.support.product import Product

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

ANN = "ann.lee@example.com"
CODEC = Codec(LocalLookup())


@pytest.fixture
def bootstrap(kafka_server: RealServer) -> str:
    return bootstrap_of(kafka_server, "access", "documents")


def test_a_policy_holds_for_what_is_captured_after_it_was_set(bootstrap: str, producer: ConfirmedProducer) -> None:
    topics_now = Topics(bootstrap)
    followed = PolicyList(Directory(bootstrap, CODEC), topics_now)
    followed.start(30)
    try:
        assert followed.now()("acme", "people") == Policy()
        for days in range(1, 30):
            wanted = KnowledgeBase("acme", "people", policy=Policy(retention_days=days))
            value = CODEC.encode("access", wanted.entry())
            producer.send([Outgoing("access", wanted.entry().key.encode(), value)])
            assert followed.now()("acme", "people").retention_days == days
    finally:
        followed.close()


def test_what_came_while_a_deletion_was_written_is_the_documents_last_record(
    bootstrap: str, producer: ConfirmedProducer
) -> None:
    outbox = KafkaOutbox(producer, CODEC, stage="retention")
    log = KafkaRetentionLog(bootstrap, Topics(bootstrap), outbox, CODEC)
    deletion = replace(
        make_change("a", 1, None, operation=Operation.DELETE), position=Position(STREAM, 1, 1000, 0, 1000)
    )
    other = replace(deletion, document_id="b")
    newer = replace(make_change("a", 9, "new words."), position=Position("cdc/s", 1, 9, 1, 2000))
    since = {partition: end for (_, partition), end in Topics(bootstrap).offsets(["documents"]).items()}

    outbox.changes([(newer, Lane.LIVE)])
    log.append([deletion, other])

    assert log.put_back([deletion, other], since) == 1
    last: dict[str, DocumentChange] = {}
    for message in records_since(bootstrap, "documents", None, start_at=since):
        change = CODEC.decode(message.value() or b"", DocumentChange)
        last[change.document_id] = change
    assert last == {"a": newer, "b": other}
    with pytest.raises(TemporaryFailure, match="is behind"):
        log.settled()  # nobody has read these records


@pytest.fixture
def base(product: Product) -> str:
    """A knowledge base that masks e-mail addresses, and keeps documents for a day."""
    return product.make_base(Policy(mask=("email",), retention_days=1))


def shown(product: Product, document_id: str, base: str) -> str:
    found = product.client.document(document_id, base)
    assert found is not None, f"{document_id} is not indexed yet"
    return json.dumps(found)


def test_an_address_is_found_by_its_token_and_stands_nowhere(product: Product, base: str) -> None:
    since_ms = int(time.time() * 1000) - 60_000
    secret = product.settings.privacy.mask_key
    assert secret is not None
    token = Masker(secret.get_secret_value(), product.tenant).token("email", ANN)

    product.client.publish("note", f"Write to {ANN} about the mill.", base, title=ANN, metadata={"by": ANN})
    product.client.upload(
        f"{ANN} letter.txt", f"From {ANN.upper()}: the weir is open.".encode(), base, document_id="letter"
    )

    note = eventually(lambda: shown(product, "note", base))
    letter = eventually(lambda: shown(product, "letter", base))
    assert (note.count(token), ANN in note) == (3, False)
    assert f"From {token}: the weir is open." in letter
    hits = product.client.search(f"what did {ANN} write?", base, mode="keyword")
    assert {hit["document_id"] for hit in hits} == {"note", "letter"}
    assert [hit["document_id"] for hit in product.client.search("mill", base, filters={"by": ANN})] == ["note"]
    logged = [
        message.value() or b""
        for message in records_since(product.settings.kafka.bootstrap, "documents", since_ms)
        if f"/{base}/".encode() in (message.key() or b"")
    ]
    assert len(logged) == 2
    assert all(token.encode() in value and ANN.encode() not in value for value in logged)


def test_what_is_kept_no_longer_is_deleted_everywhere(
    product: Product, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in product.stack.environment().items():
        monkeypatch.setenv(name, value)
    product.client.publish("old", "Words of yesterday.", base)
    eventually(lambda: shown(product, "old", base))

    def swept() -> dict[str, dict[str, int]]:
        done = CliRunner().invoke(retention_commands.app, ["sweep", "--json"])
        assert done.exit_code == 0, str(done.exception)  # the index may be behind for a moment
        found: dict[str, dict[str, int]] = json.loads(done.stdout)
        return found

    assert eventually(swept)[product.tenant][base] == 0
    now_ms = clock.now_ms
    monkeypatch.setattr(clock, "now_ms", lambda: now_ms() + 2 * 86_400_000)

    assert eventually(swept)[product.tenant][base] == 1
    eventually(lambda: product.client.document("old", base) is None)
    assert eventually(swept)[product.tenant][base] == 0
