"""A restricted document and an embedding model that is not ours: it never sees the text, and nobody finds old text."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from schemas.records import DocumentChange, ReceiptStage
from streams.core.outcomes import Done, Rejected
from tests.property.test_index_machine import CountingEmbedder, MemoryOutbox, inbound, make_change, make_step
from tests.support.fake_index import FakeIndex
from tests.support.oracle import scan_fake


def labelled(document: str, lsn: int, text: str, label: str = "restricted") -> DocumentChange:
    return replace(make_change(document, lsn, text), metadata={"sensitivity": label})


def shown(index: FakeIndex) -> str:
    return str(scan_fake(index))


def test_a_restricted_document_is_parked_and_its_neighbours_are_indexed() -> None:
    index, embedder = FakeIndex(), CountingEmbedder()
    step = replace(make_step(index, embedder), sends_out=True)

    outcomes = step.handle_now(
        [
            inbound(labelled("a", 1, "open words.", "public"), 1),
            inbound(labelled("b", 2, "closed words."), 2),
            inbound(make_change("c", 3, "plain words."), 3),
        ]
    )

    assert outcomes[0] == outcomes[2] == Done("indexed")
    assert isinstance(outcomes[1], Rejected)
    assert outcomes[1].reason == "restricted"
    assert sorted(embedder.texts) == ["open words.", "plain words."]
    told = cast(MemoryOutbox, step.outbox).receipts
    assert {receipt.document_id for receipt in told if receipt.stage.terminal} == {"a", "c"}


def test_what_the_index_had_of_it_before_is_found_no_more() -> None:
    index, embedder = FakeIndex(), CountingEmbedder()
    step = replace(make_step(index, embedder), sends_out=True)
    step.handle_now([inbound(labelled("a", 1, "open words.", "internal"), 1)])
    assert "open words." in shown(index)

    (outcome,) = step.handle_now([inbound(labelled("a", 2, "closed words."), 2)])

    assert isinstance(outcome, Rejected)
    assert "words." not in shown(index)
    assert embedder.texts == ["open words."]


def test_it_comes_back_when_its_label_allows_it() -> None:
    index, embedder = FakeIndex(), CountingEmbedder()
    step = replace(make_step(index, embedder), sends_out=True)
    step.handle_now([inbound(labelled("a", 1, "closed words."), 1)])

    assert step.handle_now([inbound(labelled("a", 2, "closed words.", "public"), 2)]) == [Done("indexed")]

    assert "closed words." in shown(index)


def test_a_deletion_of_it_is_a_deletion() -> None:
    index = FakeIndex()
    step = replace(make_step(index), sends_out=True)
    step.handle_now([inbound(labelled("a", 1, "closed words."), 1)])

    assert step.handle_now([inbound(make_change("a", 2, None), 2)]) == [Done("deleted")]
    assert [r.stage for r in cast(MemoryOutbox, step.outbox).receipts] == [ReceiptStage.DELETED]


def test_a_model_of_ours_embeds_it_as_any_other() -> None:
    index, embedder = FakeIndex(), CountingEmbedder()

    assert make_step(index, embedder).handle_now([inbound(labelled("a", 1, "closed words."), 1)]) == [Done("indexed")]
    assert embedder.texts == ["closed words."]
