"""Large documents and batches in the index stage: bounded in memory, and what was computed is not computed again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from runtime.embedding.contract import EmbeddingRejected, EmbedResult
from schemas.records import Embedding, Receipt
from streams.core.outcomes import Done, Rejected, Retry
from streams.core.versions import NewChunk
from streams.ports import Inbound, TemporaryFailure, Vector
from streams.steps.index import IndexStep
from tests.property.test_index_machine import CountingEmbedder, Crash, MemoryOutbox, inbound, make_change, make_step
from tests.support.fake_index import FakeIndex
from tests.support.oracle import differences, scan_fake

BOOK = "\n\n".join(f"Paragraph number {i} says something." for i in range(40))


def sliced(index: FakeIndex, embedder: CountingEmbedder, outbox: MemoryOutbox | None = None) -> IndexStep:
    return replace(make_step(index, embedder), slice_texts=8, outbox=outbox or MemoryOutbox())


def book(lsn: int = 1, document: str = "book") -> list[Inbound]:
    return [inbound(make_change(document, lsn, BOOK))]


class Slices(FakeIndex):
    """Notes what each write held."""

    def write_chunks(self, tenant: str, chunks: Sequence[NewChunk], vectors: Mapping[str, Vector]) -> None:
        super().write_chunks(tenant, chunks, vectors)
        self.held = [*getattr(self, "held", []), len(vectors)]


def test_no_more_than_a_slice_of_vectors_is_held_at_once() -> None:
    index, embedder = Slices(), CountingEmbedder()
    step = sliced(index, embedder)

    (outcome,) = step.handle_now(book())

    assert isinstance(outcome, Done)
    assert index.held == [8, 8, 8, 8, 8]
    assert step.spare == {}
    assert differences(scan_fake(index), {"t/kb/book": BOOK}) == []


@pytest.mark.parametrize("died_in", [1, 2, 4])
def test_a_death_between_slices_costs_the_slice_in_hand_and_no_more(died_in: int) -> None:
    index, embedder, writes = FakeIndex(), CountingEmbedder(), 0

    def die(name: str) -> None:
        nonlocal writes
        writes += name == "write_chunks"
        if writes == died_in:
            raise Crash

    index.before_call = die
    with pytest.raises(Crash):
        sliced(index, embedder).handle_now(book())
    assert scan_fake(index).live_documents() == {}
    index.before_call = lambda _: None
    sliced(index, embedder).handle_now(book())

    assert len(embedder.texts) == 40 + 8
    assert differences(scan_fake(index), {"t/kb/book": BOOK}) == []


class Remembering(MemoryOutbox):
    """The topic `embeddings`: what was published can be asked for."""

    def vectors(self, tenant: str, text_hashes: Collection[str]) -> dict[str, Vector]:
        found = {item.text_hash: item.vector for item in self.embeddings if item.tenant == tenant}
        return {hashed: np.frombuffer(found[hashed], "<f4") for hashed in text_hashes if hashed in found}


def test_with_the_log_of_vectors_a_death_costs_nothing_and_so_does_a_lost_index() -> None:
    outbox, embedder, index = Remembering(), CountingEmbedder(), FakeIndex()

    def die(name: str) -> None:
        if name == "write_chunks":
            raise Crash

    index.before_call = die
    with pytest.raises(Crash):
        replace(sliced(index, embedder, outbox), vector_log=outbox).handle_now(book())
    lost = FakeIndex()
    replace(sliced(lost, embedder, outbox), vector_log=outbox).handle_now(book())

    assert len(embedder.texts) == 40
    assert len({item.text_hash for item in outbox.embeddings}) == 40
    assert differences(scan_fake(lost), {"t/kb/book": BOOK}) == []


def test_every_vector_in_the_index_was_published_before_it_was_written() -> None:
    index, outbox = FakeIndex(), MemoryOutbox()

    def published_first(_: str, __: str) -> None:
        stored = {item.chunk.text_hash for item in index.chunks.values()}
        assert stored <= {item.text_hash for item in outbox.embeddings}

    index.after_effect = published_first
    (outcome,) = sliced(index, CountingEmbedder(), outbox).handle_now(book())

    assert isinstance(outcome, Done)
    assert len(outbox.embeddings) == 40


class Away(MemoryOutbox):
    """The broker takes nothing until told."""

    away = True

    def publish(self, receipts: Sequence[Receipt], embeddings: Sequence[Embedding]) -> None:
        if self.away:
            raise TemporaryFailure("away")
        super().publish(receipts, embeddings)


def test_what_could_not_be_published_is_not_computed_again() -> None:
    index, embedder, outbox = FakeIndex(), CountingEmbedder(), Away()
    step = sliced(index, embedder, outbox)

    (first,) = step.handle_now(book())
    outbox.away = False
    (second,) = step.handle_now(book())

    assert (type(first), type(second)) == (Retry, Done)
    assert len(embedder.texts) == 40
    assert len({item.text_hash for item in outbox.embeddings}) == 40


class Picky(CountingEmbedder):
    """Refuses texts with a word in them, and says which."""

    asked = 0

    def embed_documents(self, texts: Sequence[str]) -> EmbedResult:
        self.asked += 1
        refused = [at for at, text in enumerate(texts) if "poison" in text]
        if refused:
            raise EmbeddingRejected("refused by the model", refused)
        return super().embed_documents(texts)


def test_a_text_that_the_model_refuses_costs_its_document_and_one_call() -> None:
    index, embedder = FakeIndex(), Picky()
    changes = [make_change(f"d{i}", i + 1, f"text {i}" + " poison" * (i in (3, 7))) for i in range(12)]

    outcomes = make_step(index, embedder).handle_now([inbound(change) for change in changes])

    assert [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Rejected)] == [3, 7]
    assert outcomes[3] == Rejected("embedding_rejected", "refused by the model")
    assert (embedder.asked, len(embedder.texts)) == (2, 10)
    expected = {change.key: change.text or "" for i, change in enumerate(changes) if i not in (3, 7)}
    assert differences(scan_fake(index), expected) == []


@pytest.mark.parametrize("embedder", [Picky(), CountingEmbedder()], ids=["the model", "the store"])
def test_a_refused_version_leaves_the_older_one_of_its_batch(embedder: CountingEmbedder) -> None:
    """What becomes of a version does not depend on which others were in its batch."""
    index = FakeIndex(refuse_text=None if isinstance(embedder, Picky) else "poison")
    batch = [inbound(make_change("a", 1, "good text")), inbound(make_change("a", 2, "poison text"))]

    outcomes = make_step(index, embedder).handle_now(batch)

    assert [type(outcome) for outcome in outcomes] == [Done, Rejected]
    assert differences(scan_fake(index), {"t/kb/a": "good text"}) == []


def test_a_batch_is_worked_on_in_groups_of_bounded_bytes_and_a_document_stays_whole() -> None:
    index, embedder = FakeIndex(), CountingEmbedder()
    changes = [make_change(f"d{i % 4}", i + 1, f"version {i} of a text. " * 20) for i in range(12)]
    batch = [inbound(change, offset) for offset, change in enumerate(changes)]
    held: list[int] = []
    index.before_call = lambda name: held.append(len(index.stored)) if name == "write_manifests" else None

    outcomes = replace(make_step(index, embedder), group_bytes=7 * len(batch[0].value or b"")).handle_now(batch)

    assert held == [0, 2]  # two documents of three versions each, twice
    assert [outcome.label for outcome in outcomes if isinstance(outcome, Done)] == ["superseded"] * 8 + ["indexed"] * 4
    assert differences(scan_fake(index), {c.key: c.text or "" for c in changes[-4:]}) == []


def test_a_hot_row_is_indexed_once_though_its_versions_are_more_than_a_group() -> None:
    index, embedder = FakeIndex(), CountingEmbedder()
    batch = [inbound(make_change("a", lsn, f"version {lsn} of a text. " * 20)) for lsn in (1, 2, 3, 4)]

    outcomes = replace(make_step(index, embedder), group_bytes=len(batch[0].value or b"")).handle_now(batch)

    assert outcomes == [Done("superseded")] * 3 + [Done("indexed")]
    assert not any("version 3" in text for text in embedder.texts)


def test_versions_of_one_document_too_large_together_are_indexed_one_after_the_other() -> None:
    index = FakeIndex()
    batch = [inbound(make_change("a", lsn, f"version {lsn} of a text. " * 20)) for lsn in (1, 2, 3)]

    outcomes = replace(make_step(index), group_bytes=10).handle_now(batch)

    assert outcomes == [Done("indexed")] * 3
    assert differences(scan_fake(index), {"t/kb/a": "version 3 of a text. " * 20}) == []
