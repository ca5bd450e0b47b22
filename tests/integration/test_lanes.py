"""A bulk load does not hold back a live edit: on the real stack, the edit is searchable while the load still waits."""

from __future__ import annotations

import uuid

import pytest

from schemas.records import Event
from streams.pipeline import stage
from tests.support.client import eventually
from tests.support.product import Product
from tests.support.quiesce import Receipts, quiesce

pytestmark = [pytest.mark.real, pytest.mark.timeout(400, func_only=True)]

LOAD, EDITS = 300, 3


def waiting(product: Product) -> int:
    """Records before the bulk lane, by the broker."""
    bulk = stage("index-bulk")
    return sum(product.topics.count_data(lag) for lag in product.topics.lag(bulk.group, bulk.reads))


def new_text(word: str) -> str:
    """Two chunks that nobody embedded before."""
    return "\n\n".join(f"{uuid.uuid4()} {word} {at}: " + "the river rises and falls again. " * 25 for at in range(2))


def test_live_edits_are_searchable_while_a_bulk_load_waits(product: Product, receipts: Receipts) -> None:
    base = f"lanes-{uuid.uuid4().hex[:8]}"
    quiesce(product, receipts, [product.client.publish("first", "The base is there.", base)])
    events = [
        Event(product.tenant, base, f"load-{at}", text=new_text(f"loadword{at}"), source="load") for at in range(LOAD)
    ]
    positions = product.publish(events)
    eventually(lambda: waiting(product) > LOAD / 2, 30)

    behind = []
    for at in range(EDITS):
        word = f"liveword{uuid.uuid4().hex[:8]}"
        positions.append(product.client.publish(f"live-{at}", f"An edit says {word}.", base))
        eventually(lambda word=word: bool(product.client.search(word, base, mode="keyword")), 20)  # type: ignore[misc]
        behind.append(waiting(product))

    assert all(behind), f"the load was through before the edits: {behind}"
    quiesce(product, receipts, positions, within_s=300)
    assert waiting(product) == 0
    found = product.client.search(f"loadword{LOAD - 1}", base, mode="keyword")
    assert f"load-{LOAD - 1}" in {hit["document_id"] for hit in found}


def test_a_document_in_both_lanes_shows_its_newest_version(product: Product, receipts: Receipts) -> None:
    """A load says one thing of a document, a later edit another: whichever lane is faster, the edit stays."""
    base = f"lanes-{uuid.uuid4().hex[:8]}"
    quiesce(product, receipts, [product.client.publish("first", "The base is there.", base)])
    events = [
        Event(product.tenant, base, f"doc-{at}", text=f"Old text {at} {base}.", source="load") for at in range(201)
    ]
    positions = product.publish(events)
    positions += [product.client.publish(f"doc-{at}", f"New text {at} {base}.", base) for at in (5, 200)]

    quiesce(product, receipts, positions, within_s=120)

    for at, says in ((5, "New"), (200, "New"), (6, "Old")):
        document = product.client.document(f"doc-{at}", base)
        assert document is not None
        assert document["chunks"][0]["text"] == f"{says} text {at} {base}."
