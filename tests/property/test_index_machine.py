"""The index stage alone, with a fake store: what an operation costs, what a failure costs, what a reader sees amid one.

Whole histories, with crashes, redelivery and zombies, are in `tests/simulation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from runtime.embedding.contract import EmbedResult, ModelFingerprint
from runtime.metrics import declare
from schemas.codec import Codec
from schemas.records import DocumentChange, Embedding, Operation, Origin, Position, Receipt
from streams.core.chunking import ChunkingParameters
from streams.core.outcomes import Done, Retry
from streams.ports import Inbound, TemporaryFailure
from streams.steps.index import IndexStep
from tests.support.fake_index import FakeIndex
from tests.support.lookup import LocalLookup
from tests.support.oracle import differences, scan_fake

CODEC = Codec(LocalLookup())
SMALL = ChunkingParameters(most=160)


class CountingEmbedder:
    """Embeds by hash; counts texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    @property
    def fingerprint(self) -> ModelFingerprint:
        return ModelFingerprint("test", "hash", "1", 4, 512, True)

    def embed_documents(self, texts: Sequence[str]) -> EmbedResult:
        self.texts += texts
        rows = [np.random.default_rng(abs(hash(text)) % 2**32).normal(size=4).astype(np.float32) for text in texts]
        return EmbedResult(np.array(rows), tokens=len(texts), calls=1)

    def embed_query(self, text: str) -> EmbedResult:
        return self.embed_documents([text])

    def count_tokens(self, text: str) -> int:
        return len(text)


@dataclass
class MemoryOutbox:
    """Keeps what was published."""

    receipts: list[Receipt] = field(default_factory=list)
    embeddings: list[Embedding] = field(default_factory=list)

    def publish(self, receipts: Sequence[Receipt], embeddings: Sequence[Embedding]) -> None:
        self.receipts += receipts
        self.embeddings += embeddings

    def progress(self, receipts: Sequence[Receipt]) -> None:
        """Not kept."""


class Ticking:
    """A clock that moves when it is read."""

    def __init__(self) -> None:
        self.at = 0

    def now_ms(self) -> int:
        self.at += 1
        return self.at


def make_step(index: FakeIndex, embedder: CountingEmbedder | None = None) -> IndexStep:
    return IndexStep(
        codec=CODEC,
        index=index,
        embedder=embedder or CountingEmbedder(),
        outbox=MemoryOutbox(),
        clock=Ticking(),
        metrics=declare(CollectorRegistry()),
        generation="test",
        parameters=SMALL,
    )


def make_change(
    document: str, lsn: int, text: str | None, *, operation: Operation | None = None, access: list[str] | None = None
) -> DocumentChange:
    return DocumentChange(
        tenant="t",
        knowledge_base="kb",
        document_id=document,
        operation=operation or (Operation.DELETE if text is None else Operation.UPSERT),
        position=Position("cdc/s", 1, lsn, 1, lsn),
        origin=Origin("cdc", "s", document, "cdc.s.public.t", 0, lsn),
        text=text,
        access=access,
    )


def inbound(change: DocumentChange, offset: int = 0) -> Inbound:
    return Inbound("documents", 0, offset, 0, change.key.encode(), CODEC.encode("documents", change))


WORDS = ["alpha beta gamma.", "delta epsilon.", "zeta eta theta iota.", "kappa lambda.", "mu nu xi.", "omicron pi rho."]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[DocumentChange], int]:
    """Changes in source order, of few documents and few sentences, so that versions share chunks; and a seed."""
    count = draw(st.integers(1, 14))
    changes = []
    for lsn in range(1, count + 1):
        kind = draw(st.sampled_from(["upsert"] * 6 + ["delete", "barrier"]))
        document = draw(st.sampled_from(["a", "b", "c"]))
        if kind == "barrier":
            changes.append(make_change("source:s", lsn, None, operation=Operation.BARRIER))
        elif kind == "delete":
            changes.append(make_change(document, lsn, None))
        else:
            sentences = draw(st.lists(st.sampled_from(WORDS), min_size=0, max_size=6))
            changes.append(make_change(document, lsn, "\n\n".join(sentences)))
    return changes, draw(st.integers(0, 2**32 - 1))


def model(changes: list[DocumentChange]) -> dict[str, str]:
    """What the index should hold: document key to text."""
    state: dict[str, str] = {}
    for change in sorted(changes, key=lambda c: c.position.major):
        if change.operation is Operation.BARRIER:
            state.clear()
        elif change.operation is Operation.DELETE:
            state.pop(change.key, None)
        else:
            state[change.key] = change.text or ""
    return state


class Crash(BaseException):
    """The process died."""


@pytest.mark.parametrize(
    "meanwhile",
    [
        make_change("a", 4, WORDS[0]),  # an older version, which the retry is planned against
        make_change("source:s", 6, None, operation=Operation.BARRIER),  # the end of it
    ],
    ids=["an older version", "a barrier"],
)
def test_a_try_that_died_leaves_no_stray_whatever_came_before_the_next(meanwhile: DocumentChange) -> None:
    index, change = FakeIndex(), make_change("a", 5, WORDS[0])

    def die(name: str) -> None:
        if name == "write_manifests":
            raise Crash

    index.before_call = die
    with pytest.raises(Crash):
        make_step(index).handle_now([inbound(change)])
    index.before_call = lambda _: None
    make_step(index).handle_now([inbound(meanwhile)])
    make_step(index).handle_now([inbound(change)])

    assert differences(scan_fake(index), model([change, meanwhile])) == []


def test_unchanged_text_is_never_embedded_again() -> None:
    """Edit, metadata, touch, copy, revert, delete, re-add: texts sent to the model, operation by operation."""
    index, embedder = FakeIndex(), CountingEmbedder()
    text = "\n\n".join(f"Paragraph number {i} says something." for i in range(20))
    lsn = 0

    def cost(document: str, body: str | None, access: list[str] | None = None) -> int:
        nonlocal lsn
        lsn += 1
        before = len(embedder.texts)
        (outcome,) = make_step(index, embedder).handle_now([inbound(make_change(document, lsn, body, access=access))])
        assert isinstance(outcome, Done)
        return len(embedder.texts) - before

    edited = text.replace("number 7 says", "number 7 shouts")
    costs = {
        "insert": cost("a", text),
        "edit": cost("a", edited),
        "touch": cost("a", edited),
        "copy": cost("b", edited),
        "revert": cost("a", text),
        "access": cost("a", text, ["group"]),
        "delete": cost("a", None),
        "re-add": cost("a", text),
    }

    assert costs == {
        "insert": 20, "edit": 1, "touch": 0, "copy": 0, "revert": 0, "access": 0, "delete": 0, "re-add": 0,
    }  # fmt: skip


def test_two_documents_of_one_text_have_an_object_each() -> None:
    """The end of one takes nothing from the other."""
    index = FakeIndex()
    step = make_step(index)
    for change in (make_change("a", 1, WORDS[0]), make_change("b", 1, WORDS[0]), make_change("a", 2, None)):
        step.handle_now([inbound(change)])

    assert differences(scan_fake(index), {"t/kb/b": WORDS[0]}) == []
    assert len(index.chunks) == 2


def test_what_comes_again_is_not_written_again() -> None:
    """Neither the newest version nor one that it has replaced; what it became is told again."""
    index, writes = FakeIndex(), list[str]()
    step = make_step(index)
    first, second = (inbound(make_change("a", lsn, WORDS[lsn]), lsn) for lsn in (1, 2))
    for record in (first, second):
        step.handle_now([record])
    index.before_call = writes.append

    again = [step.handle_now([record]) for record in (first, second)]

    assert again == [[Done("superseded")], [Done("indexed")]]
    assert not {"write_chunks", "write_manifests", "retire", "vectors"} & set(writes)


def test_a_batch_that_failed_after_embedding_is_not_embedded_again() -> None:
    """The store is away after the model was paid: the retry uses what was computed, for this tenant only."""
    index, embedder = FakeIndex(), CountingEmbedder()
    step = make_step(index, embedder)
    batch = [inbound(make_change("a", 1, "one two three.\n\nfour five six seven eight nine ten."))]

    def away(name: str) -> None:
        if name == "write_chunks":
            raise TemporaryFailure("away")

    index.before_call = away
    (first,) = step.handle_now(batch)
    paid = len(embedder.texts)
    kept = {tenant for tenant, _ in step.spare}
    index.before_call = lambda _: None
    (second,) = step.handle_now(batch)

    assert isinstance(first, Retry)
    assert isinstance(second, Done)
    assert paid > 0
    assert len(embedder.texts) == paid
    assert kept == {"t"}
    assert step.spare == {}


def test_a_refused_document_is_rejected_and_its_neighbours_are_indexed() -> None:
    """One change the store refuses is found by halving the batch; the others are done."""
    index = FakeIndex(refuse_text="poison")
    changes = [make_change(f"d{i}", i + 1, "poison text" if i == 5 else f"text {i}") for i in range(12)]

    outcomes = make_step(index).handle_now([inbound(change) for change in changes])

    assert [type(outcome).__name__ for outcome in outcomes] == ["Done"] * 5 + ["Rejected"] + ["Done"] * 6
    expected = {change.key: change.text or "" for change in changes if change.document_id != "d5"}
    assert differences(scan_fake(index), expected) == []


def test_a_newer_version_is_whole_though_one_before_it_was_written_and_ended_meanwhile() -> None:
    """Another lane's writer takes a version between, in full, after the newest was planned and before it is written."""
    index = FakeIndex()
    first, second = "one two three.\n\nfour five six seven.", "nothing of it is left."
    make_step(index).handle_now([inbound(make_change("a", 1, first))])
    newest = f"{first}\n\neight nine ten eleven."

    def between(name: str) -> None:
        if name == "write_chunks":
            index.before_call = lambda _: None
            make_step(index).handle_now([inbound(make_change("a", 2, second))])

    index.before_call = between
    make_step(index).handle_now([inbound(make_change("a", 3, newest))])

    assert differences(scan_fake(index), {"t/kb/a": newest}) == []


@pytest.mark.parametrize("step", ["write_chunks", "write_manifests", "manifests", "retire"])
def test_a_reader_never_sees_a_mixed_version(step: str) -> None:
    """Stopped before any call of the commit, the visible text is the old version whole or the new one whole."""
    index = FakeIndex()
    old, new = "one two three.\n\nfour five six seven.", "one two three.\n\nsomething else here."
    make_step(index).handle_now([inbound(make_change("a", 1, old))])
    calls: list[str] = []

    def stop(name: str) -> None:
        calls.append(name)
        if name == step and (name != "manifests" or calls.count("manifests") == 2):
            raise Crash

    index.before_call = stop
    with pytest.raises(Crash):
        make_step(index).handle_now([inbound(make_change("a", 2, new))])

    manifest = scan_fake(index).live_documents()["t/kb/a"]
    assert all(not index.chunks[span.chunk_id].retired for span in manifest.spans)
    shown = [index.chunks[span.chunk_id].chunk.text for span in manifest.spans]
    assert "\n\n".join(shown) in (old, new)
