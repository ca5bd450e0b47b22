"""Each error lands in its class: never (parked), later, configuration (both wait as long as it lasts), or a defect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
from confluent_kafka import KafkaError
from prometheus_client import CollectorRegistry

from runtime.embedding.contract import (
    EmbeddingError,
    EmbeddingMisconfigured,
    EmbeddingRejected,
    EmbeddingReplyInvalid,
    EmbeddingUnavailable,
    EmbedResult,
    ModelFingerprint,
)
from runtime.metrics import declare
from runtime.producer import Delivery, DeliveryFailed, Outgoing, failure_of
from schemas.codec import Codec, DecodeError, UnknownSchema
from schemas.lanes import Lane
from schemas.records import DocumentChange, Embedding, Event, Receipt
from schemas.registry import NotRegistered, RegistryUnavailable
from schemas.source import parse_source
from streams.adapters.outbox import KafkaOutbox
from streams.core.changes import NotAChange
from streams.core.letters import LETTER, NotRedriven, Place, State, own_headers, read_letter, redriven_headers
from streams.core.outcomes import Done, Outcome, Rejected, Retry
from streams.ports import Inbound, Misconfigured, PermanentFailure, TemporaryFailure
from streams.steps.capture import CapturedSource, CaptureStep
from streams.steps.failures import outcome_of
from streams.steps.index import IndexStep
from tests.support.fake_index import FakeIndex
from tests.support.lookup import LocalLookup
from tests.support.unprotected import unprotected

EVENT = Event("t", "kb", "heron", text="Herons fish.")
SOURCE = parse_source("name: articles\nknowledge_base: kb\ntable: public.articles\nkey: [id]\ntext: body\n")
MOVED = parse_source("name: articles\nknowledge_base: kb\ntable: public.articles\nkey: [id]\ntext: content\n")


def class_of(outcome: Outcome) -> str:
    """Where it goes."""
    match outcome:
        case Retry():
            return outcome.error_class
        case Rejected():
            return "defect" if outcome.defect else "never"
        case Done():
            return "done"


@pytest.mark.parametrize(
    ("error", "expected", "after_s"),
    [
        (DecodeError("bytes"), "never", None),
        (NotAChange("no envelope"), "never", None),
        (NotRedriven("forged"), "never", None),
        (PermanentFailure("bad_vector", "NaN"), "never", None),
        (TemporaryFailure("away", 7.0), "later", 7.0),
        (RegistryUnavailable("away"), "later", None),
        (Misconfigured("no grant"), "configuration", None),
        (NotRegistered("run schemas register"), "configuration", None),
        (UnknownSchema("9"), "defect", None),
        (KeyError("ours"), "defect", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_has_its_class(error: Exception, expected: str, after_s: float | None) -> None:
    outcome = outcome_of(error)

    assert class_of(outcome) == expected
    assert getattr(outcome, "after_s", None) == after_s


def test_a_defect_tells_where_it_was_raised_and_no_values() -> None:
    def fails(text: str) -> None:
        raise KeyError(len(text))

    try:
        fails("a secret text")
    except KeyError as error:
        outcome = outcome_of(error)

    assert isinstance(outcome, Retry)
    assert "in fails" in outcome.trace
    assert "test_failures.py" in outcome.trace
    assert "secret" not in outcome.trace


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, PermanentFailure),
        (KafkaError.INVALID_RECORD, PermanentFailure),
        (KafkaError._MSG_TIMED_OUT, TemporaryFailure),
        (KafkaError._TRANSPORT, TemporaryFailure),
        (KafkaError.NOT_ENOUGH_REPLICAS, TemporaryFailure),
        (KafkaError.KAFKA_STORAGE_ERROR, TemporaryFailure),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, Misconfigured),
        (KafkaError._UNKNOWN_TOPIC, Misconfigured),
    ],
)
def test_what_the_broker_says_is_the_records_fault_only_where_it_is(code: int, expected: type[Exception]) -> None:
    """A missing permission must not park a whole topic."""
    broker = Broker(refuses=lambda _: failure_of("documents", KafkaError(code)))

    with pytest.raises((TemporaryFailure, PermanentFailure)) as caught:
        outbox(broker).changes([(change_of(EVENT), Lane.LIVE)])

    assert type(caught.value) is expected


@dataclass
class Broker:
    """Takes records as ConfirmedProducer does, or refuses them."""

    refuses: Callable[[Outgoing], DeliveryFailed | None] = lambda _: None
    taken: list[Outgoing] = field(default_factory=list)

    def send(self, records: list[Outgoing]) -> list[Delivery]:
        for record in records:
            if (failure := self.refuses(record)) is not None:
                raise failure
            self.taken.append(record)
        return [Delivery(record.topic, 0, 0, 0) for record in records]


def outbox(broker: Broker) -> KafkaOutbox:
    return KafkaOutbox(broker, Codec(LocalLookup()), stage="capture")  # type: ignore[arg-type]


def change_of(event: Event) -> DocumentChange:
    log = Appended()
    CaptureStep(log.codec, log, NoRows(), Noon(), {}, dict, unprotected).handle_now([record_of(event)])
    return log.appended[0]


@dataclass
class Appended:
    """ChangeLog over lists."""

    codec: Codec = field(default_factory=lambda: Codec(LocalLookup()))
    appended: list[DocumentChange] = field(default_factory=list)

    def changes(self, changes: list[tuple[DocumentChange, Lane]]) -> None:
        self.appended += [change for change, _ in changes]

    def receipts(self, receipts: list[Receipt]) -> None:
        raise AssertionError(receipts)


class NoRows:
    """No database is needed."""

    def read(self, spec: object, key: object) -> None:
        raise AssertionError((spec, key))


class Noon:
    """A clock that stands."""

    def now_ms(self) -> int:
        return 12


def record_of(event: Event, offset: int = 5) -> Inbound:
    value = Codec(LocalLookup()).encode("events", event)
    return Inbound("events", 2, offset, 1_000, event.key.encode(), value, (("a", b"1"),))


def applied_anew() -> dict[str, CapturedSource]:
    return {SOURCE.topic: CapturedSource("t", MOVED)}


def list_away() -> dict[str, CapturedSource]:
    raise TemporaryFailure("away")


@pytest.mark.parametrize("applied", [dict, applied_anew, list_away], ids=["removed", "applied anew", "list away"])
def test_rows_wait_unless_their_source_is_still_what_the_worker_began_with(
    applied: Callable[[], dict[str, CapturedSource]],
) -> None:
    """By the old definition they would be mapped wrongly or parked, though the file was corrected before they came."""
    row = Inbound(SOURCE.topic, 0, 0, 0, b"key", b"no envelope")
    log, known = Appended(), {SOURCE.topic: CapturedSource("t", SOURCE)}

    as_it_was = CaptureStep(log.codec, log, NoRows(), Noon(), known, lambda: known, unprotected).handle_now(
        [record_of(EVENT), row]
    )
    waiting = CaptureStep(log.codec, log, NoRows(), Noon(), known, applied, unprotected).handle_now(
        [record_of(EVENT), row, row]
    )

    assert [class_of(outcome) for outcome in as_it_was] == ["done", "never"]
    assert [class_of(outcome) for outcome in waiting] == ["done", "later", "later"]


def test_a_letter_too_large_for_its_topic_leaves_the_value_out_and_says_where_it_lies() -> None:
    """A record must not hold its partition because its letter does not fit."""
    too_large = DeliveryFailed("dead-letters: too large", retriable=False)
    broker = Broker(refuses=lambda record: too_large if record.value else None)

    outbox(broker).park(record_of(EVENT), Rejected("undecodable", "why"))

    (sent,) = broker.taken
    letter = read_letter(Place("dead-letters", 0, 0), 1, sent.headers, 0)
    assert letter is not None
    assert (letter.left_out, str(letter.rejected), sent.key, sent.value) == (True, "events/2@5", b"t/kb/heron", None)


def test_a_letter_carries_key_value_and_headers_and_ends_with_the_reason() -> None:
    broker, record = Broker(), record_of(EVENT)

    outbox(broker).park(record, Rejected("unexpected", "KeyError: x", defect=True, trace="here"))

    (sent,) = broker.taken
    assert (sent.key, sent.value, own_headers(sent.headers)) == (record.key, record.value, [("a", b"1")])
    assert dict(sent.headers[-len(LETTER) :]) == {
        "__streams.errors.exception": b"unexpected",
        "__streams.errors.stacktrace": b"here",
        "__streams.errors.message": b"KeyError: x",
        "__streams.errors.topic": b"events",
        "__streams.errors.partition": b"2",
        "__streams.errors.offset": b"5",
        "thalweg.stage": b"capture",
        "thalweg.error.class": b"defect",
        "thalweg.timestamp": b"1000",
        "thalweg.value": b"here",
    }


def test_a_redriven_event_is_the_version_it_was_and_answers_to_its_first_position() -> None:
    """Else putting an old version back would overwrite a newer one."""
    broker, first = Broker(), record_of(EVENT)
    outbox(broker).park(first, Rejected("unexpected", "a defect"))
    letter = read_letter(Place("dead-letters", 0, 0), 2_000, broker.taken[0].headers, 1)
    assert letter is not None
    assert letter.state is State.PARKED
    headers = tuple(redriven_headers(own_headers(broker.taken[0].headers), letter))
    back = replace(first, offset=900, timestamp_ms=9_000, headers=headers)

    log = Appended()
    outcomes = CaptureStep(log.codec, log, NoRows(), Noon(), {}, dict, unprotected).handle_now(
        [first, record_of(EVENT, 70), back]
    )

    assert outcomes == [Done("captured")] * 3
    before, newer, after = log.appended
    assert after == before
    assert newer.position.newer_than(after.position)
    assert after.origin.receipt_position == "events/2@5"


def test_a_forged_way_back_is_rejected_and_its_neighbours_are_captured() -> None:
    forged = replace(record_of(EVENT), headers=(("thalweg.redriven.from", b"events/2@4"),))

    log = Appended()
    outcomes = CaptureStep(log.codec, log, NoRows(), Noon(), {}, dict, unprotected).handle_now(
        [record_of(EVENT, 4), forged]
    )

    assert outcomes[0] == Done("captured")
    assert isinstance(outcomes[1], Rejected)
    assert outcomes[1].reason == "not_redriven"
    assert len(log.appended) == 1


def test_a_defect_met_by_one_record_never_counts_against_those_behind_it() -> None:
    """They wait, so that order is kept; if they were limited too, one poison would park its whole batch."""
    unknown = replace(record_of(EVENT), value=b"\x00\x00\x0f\x42\x40rest")

    log = Appended()
    outcomes = CaptureStep(log.codec, log, NoRows(), Noon(), {}, dict, unprotected).handle_now(
        [unknown, record_of(EVENT, 6)]
    )

    first, second = outcomes
    assert isinstance(first, Retry)
    assert isinstance(second, Retry)
    assert (first.limited, second.limited) == (True, False)


class Refusing:
    """An embedder that always raises."""

    def __init__(self, error: EmbeddingError) -> None:
        self.error = error

    @property
    def fingerprint(self) -> ModelFingerprint:
        return ModelFingerprint("test", "refusing", "", 4, 512, normalised=True)

    def embed_documents(self, texts: Sequence[str]) -> EmbedResult:
        raise self.error

    def embed_query(self, text: str) -> EmbedResult:
        raise self.error

    def count_tokens(self, text: str) -> int:
        return len(text)


class Nothing:
    """An outbox for what is never said."""

    def publish(self, receipts: Sequence[Receipt], embeddings: Sequence[Embedding]) -> None:
        raise AssertionError(receipts)

    def progress(self, receipts: Sequence[Receipt]) -> None:
        """Not looked at."""


@pytest.mark.parametrize(
    ("error", "expected", "after_s"),
    [
        (EmbeddingUnavailable("429", 9.0), "later", 9.0),
        (EmbeddingReplyInvalid("NaN"), "defect", None),
        (EmbeddingMisconfigured("401"), "configuration", 30.0),
        (EmbeddingRejected("400", [0]), "never", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_the_embedder_says_has_its_class(error: EmbeddingError, expected: str, after_s: float | None) -> None:
    """A wrong key parks nothing, however long it lasts; a refused text is parked at once."""
    codec = Codec(LocalLookup())
    step = IndexStep(
        codec=codec,
        index=FakeIndex(),
        embedder=Refusing(error),
        outbox=Nothing(),
        clock=Noon(),
        metrics=declare(CollectorRegistry()),
        generation="g",
    )
    change = change_of(EVENT)
    record = Inbound("documents", 0, 0, 0, change.key.encode(), codec.encode("documents", change))

    (outcome,) = step.handle_now([record])

    assert class_of(outcome) == expected
    assert getattr(outcome, "after_s", None) == after_s
