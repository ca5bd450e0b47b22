"""Files through the upload API on the whole product: each of the nine types is found by a sentence of its body, and
one that cannot be read ends in `failed` with its reason, a dead letter, and neighbours that noticed nothing.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.fixtures.make_files import MAKERS, SENTENCE, make_corrupt, make_encrypted_pdf
from tests.support.client import eventually
from tests.support.product import Product

pytestmark = [pytest.mark.real, pytest.mark.timeout(240, func_only=True)]

ENDED_S = 150.0
PART_OF_SENTENCE = "fine gravel toward the delta"


def slow_html() -> bytes:
    """18 MB of paragraphs, all different: reading them takes longer than one file may."""
    paragraphs = "".join(f"<p>{SENTENCE} {number}</p>" for number in range(200_000))
    return f"<!DOCTYPE html><html><body>{paragraphs}</body></html>".encode()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "corrupt.docx": (lambda: make_corrupt("docx"), "corrupt"),
    "encrypted.pdf": (make_encrypted_pdf, "encrypted"),
    "endless.html": (slow_html, "timeout"),
}


@dataclass(frozen=True)
class Uploaded:
    """Good and bad files of one knowledge base, uploaded together; answers and whole event streams by file name."""

    base: str
    answers: dict[str, dict[str, Any]]
    events: dict[str, list[tuple[str, dict[str, Any]]]]


@pytest.fixture(scope="module")
def uploaded(product: Product) -> Uploaded:
    """The bad ones go first, so that the good ones have to come past them."""
    base = f"files-{uuid.uuid4().hex[:8]}"
    files = {name: make() for name, (make, _) in BAD.items()}
    files |= {f"report.{kind}": make() for kind, make in MAKERS.items()}
    answers = {name: product.client.upload(name, content, base) for name, content in files.items()}
    with ThreadPoolExecutor(len(answers)) as readers:
        streams = {
            name: readers.submit(product.client.upload_events, answer["upload_id"], ENDED_S)
            for name, answer in answers.items()
        }
        return Uploaded(base, answers, {name: stream.result() for name, stream in streams.items()})


@pytest.mark.parametrize("kind", MAKERS)
def test_a_good_file_is_found_by_a_sentence_of_its_body(kind: str, uploaded: Uploaded, product: Product) -> None:
    name = f"report.{kind}"

    events = uploaded.events[name]
    hits = product.client.search(SENTENCE, uploaded.base, limit=50)

    assert [event for event, _ in events] == ["received", "parsed", "chunked", "embedded", "searchable"]
    texts = [" ".join(hit["text"].split()) for hit in hits if hit["document_id"] == name]
    assert any(PART_OF_SENTENCE in text for text in texts), f"{name} is not among {[h['document_id'] for h in hits]}"
    document = product.client.document(name, uploaded.base)
    assert document is not None
    assert document["metadata"]["type"] == kind
    assert document["origin"]["position"] == uploaded.answers[name]["position"]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_ends_failed_with_its_reason(name: str, uploaded: Uploaded, product: Product) -> None:
    reason = BAD[name][1]

    state = product.client.upload_state(uploaded.answers[name]["upload_id"])

    assert state["state"] == "failed"
    assert reason in state["reason"]
    events = uploaded.events[name]
    assert events[-1][0] == "failed"
    assert reason in events[-1][1]["reason"]
    assert product.client.document(name, uploaded.base) is None


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_leaves_a_dead_letter_with_its_original_bytes(
    name: str, uploaded: Uploaded, product: Product
) -> None:
    topic, _, place = uploaded.answers[name]["position"].partition("/")
    partition, _, offset = place.partition("@")
    (original,) = records(product, topic, int(partition), int(offset))

    letters = [
        letter
        for letter in dead_letters(product)
        if letter.headers.get("__streams.errors.topic") == topic.encode()
        and letter.headers["__streams.errors.partition"] == partition.encode()
        and letter.headers["__streams.errors.offset"] == offset.encode()
    ]

    assert letters, "no dead letter names the upload's position"
    letter = letters[0]
    assert (letter.key, letter.value) == (original.key, original.value)
    assert original.headers.items() <= letter.headers.items()
    assert letter.headers["__streams.errors.exception"].decode() == BAD[name][1]
    assert letter.headers["__streams.errors.message"]
    assert letter.headers["thalweg.stage"] == b"parse"


def test_a_bad_file_takes_no_good_one_along(uploaded: Uploaded, product: Product) -> None:
    def all_accounted_for() -> None:
        states = {name: product.client.upload_state(answer["upload_id"]) for name, answer in uploaded.answers.items()}
        assert {name for name, state in states.items() if state["state"] == "failed"} == set(BAD)
        assert {name for name, state in states.items() if state["state"] == "searchable"} == states.keys() - set(BAD)

    eventually(all_accounted_for, 10)


@dataclass(frozen=True)
class Record:
    """A record as it lies in a topic."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


def records(product: Product, topic: str, partition: int, offset: int) -> list[Record]:
    """The one record at this place."""
    return list(_read(product, [TopicPartition(topic, partition, offset)], most=1))


def dead_letters(product: Product) -> list[Record]:
    """All dead letters there are."""
    count = product.topics.partitions()["dead-letters"]
    return list(_read(product, [TopicPartition("dead-letters", number, OFFSET_BEGINNING) for number in range(count)]))


def _read(product: Product, places: list[TopicPartition], most: int | None = None) -> Iterator[Record]:
    consumer = Consumer(
        {
            "bootstrap.servers": product.settings.kafka.bootstrap,
            "group.id": "tests",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        consumer.assign(places)
        ended, found, deadline = 0, 0, time.monotonic() + 30
        while ended < len(places) and (most is None or found < most):
            assert time.monotonic() < deadline, "the topic could not be read to its end"
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error() is not None:
                ended += 1
                continue
            found += 1
            pairs = message.headers() or []
            assert isinstance(pairs, list)
            headers = {name: text for name, text in pairs if isinstance(text, bytes)}
            yield Record(message.key(), message.value(), headers)
    finally:
        consumer.close()
