"""Sealed metadata on real servers: a ciphertext in the log and in the store, in clear for who may read the document."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable

import pytest

from runtime.privacy.policy import Policy
from runtime.privacy.sealing import PREFIX
from runtime.topic_read import records_since
from tests.support.client import eventually
from tests.support.product import Product

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]


@pytest.fixture
def base(product: Product) -> str:
    """A knowledge base that seals `salary`, and masks e-mail addresses."""
    return product.make_base(Policy(mask=("email",), seal=("salary",)))


@pytest.fixture
def logged(product: Product, base: str) -> Callable[[str], list[bytes]]:
    """What a console consumer sees of the knowledge base in a topic: the records' values."""
    since_ms = int(time.time() * 1000) - 60_000

    def read(topic: str) -> list[bytes]:
        return [
            message.value() or b""
            for message in records_since(product.settings.kafka.bootstrap, topic, since_ms)
            if f"/{base}/".encode() in (message.key() or b"")
        ]

    return read


def salary(product: Product, document_id: str, base: str) -> object:
    found = product.client.document(document_id, base)
    assert found is not None, f"{document_id} is not indexed yet"
    return found["metadata"]["salary"]


def test_a_sealed_value_is_in_clear_for_a_reader_and_nowhere_else(
    product: Product, base: str, logged: Callable[[str], list[bytes]]
) -> None:
    secret = f"{uuid.uuid4().hex} with bonus to ann@example.com"

    product.client.publish("note", "About the mill.", base, metadata={"salary": secret, "team": "weir"})
    product.client.upload(
        "letter.txt", b"About the weir.", base, document_id="letter", metadata=json.dumps({"salary": secret})
    )

    for document in ("note", "letter"):
        assert eventually(lambda document=document: salary(product, document, base)) == secret
    (hit,) = product.client.search("mill", base, filters={"team": "weir"})
    assert hit["metadata"] == {"salary": secret, "team": "weir"}
    asked = {"query": "mill", "knowledge_bases": [base], "filters": {"salary": secret}}
    assert product.client.query.post("/v1/search", json=asked).status_code == 422

    documents = logged("documents")
    assert len(documents) == 2
    for value in documents:
        assert PREFIX.encode() in value
        assert secret[:32].encode() not in value
    stored = repr(product.scan(base, "api"))
    assert PREFIX in stored
    assert secret[:32] not in stored
    # What the sources sent is in their own topics as they sent it: README.md says what to do about it.
    assert any(secret.encode() in value for value in logged("events"))


def test_another_value_is_another_version_without_another_chunk(
    product: Product, base: str, logged: Callable[[str], list[bytes]]
) -> None:
    product.client.publish("ann", "Ann keeps the mill.", base, metadata={"salary": 1})
    assert eventually(lambda: salary(product, "ann", base)) == 1
    (before,) = product.client.search("mill", base)

    product.client.publish("ann", "Ann keeps the mill.", base, metadata={"salary": 2})

    eventually(lambda: salary(product, "ann", base) == 2)
    (after,) = product.client.search("mill", base)
    assert after["chunk_id"] == before["chunk_id"]
    assert after["version"] != before["version"]
    assert len({value for value in logged("documents") if PREFIX.encode() in value}) == 2
