"""Dead letters on the real product: exact bytes, bad neighbours harm nobody, and an old version never comes back."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.blobs import BlobStore, blob_uri
from runtime.producer import ConfirmedProducer, Delivery, Outgoing
from schemas.records import AuditEntry, Upload
from streams.adapters.letter_log import LetterLog, LetterWriter
from streams.core.letters import LETTER, Letter
from streams.ports import Inbound
from tests.support.client import eventually
from tests.support.dlq import dlq, letter_of, records_of, run_dlq, write_file
from tests.support.product import Product
from tests.support.quiesce import Receipts

pytestmark = [pytest.mark.real, pytest.mark.timeout(240, func_only=True)]


@pytest.fixture(scope="module")
def producer(product: Product) -> Iterator[ConfirmedProducer]:
    """Writes to topics as any producer with a password could."""
    with ConfirmedProducer(product.settings.kafka.bootstrap, client_id="tests") as made:
        yield made


def send(producer: ConfirmedProducer, topic: str, key: bytes | None, value: bytes, headers: Any = ()) -> Delivery:
    (delivery,) = producer.send([Outgoing(topic, key, value, headers)])
    return delivery


def parked(product: Product, place: str) -> Inbound:
    """The one record of the topic that is the letter of the record at this place."""
    topic, _, rest = place.partition("/")
    partition, _, offset = rest.partition("@")

    def found() -> list[Inbound]:
        return [
            record
            for record in records_of(product.settings.kafka.bootstrap, "dead-letters", 3)
            if (record.header(LETTER[3]), record.header(LETTER[4]), record.header(LETTER[5]))
            == (topic, partition, offset)
        ]

    eventually(lambda: bool(found()), 60, every_s=0.5)
    letters = found()
    assert len(letters) == 1, f"{len(letters)} letters of {place}"
    return letters[0]


class Uploads:
    """Uploads whose bytes are not in the blob store yet: parse cannot take them, until they are."""

    def __init__(self, product: Product, producer: ConfirmedProducer, folder: Path) -> None:
        self._product, self._producer, self._folder = product, producer, folder
        self._blobs = BlobStore(product.settings.blobs_url)

    def send(self, document_id: str, base: str, text: str) -> str:
        """Announce a version; its position."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        upload = Upload(
            upload_id=uuid.uuid4().hex,
            tenant=self._product.tenant,
            knowledge_base=base,
            document_id=document_id,
            filename=f"{document_id}.txt",
            kind="txt",
            size=len(text.encode()),
            sha256=digest,
            blob=blob_uri(self._product.tenant, digest),
        )
        value = self._product.codec.encode("uploads", upload)
        return send(self._producer, "uploads", upload.key.encode(), value).position

    def store(self, text: str) -> None:
        """Put the bytes where they should have been."""
        self._blobs.put(write_file(self._folder, uuid.uuid4().hex, text.encode()), tenant=self._product.tenant)


@pytest.fixture
def uploads(product: Product, producer: ConfirmedProducer, tmp_path: Path) -> Uploads:
    return Uploads(product, producer, tmp_path)


@pytest.fixture
def base(product: Product, receipts: Receipts) -> str:
    """A knowledge base of the test's own, made by its first document."""
    name = f"dlq-{uuid.uuid4().hex[:8]}"
    receipts.wait([product.client.publish("first", "Nothing of importance.", name)])
    return name


def text_of(product: Product, document_id: str, base: str) -> str | None:
    """The text of a document's chunks, None if it is not indexed."""
    found = product.client.document(document_id, base)
    return None if found is None else " ".join(chunk["text"] for chunk in found["chunks"])


def fetch(product: Product, place: str) -> tuple[Letter, Inbound]:
    """A letter and its record, by the record's place."""
    with LetterLog(product.settings.kafka.bootstrap) as log:
        (letter,) = [one for one in log.read() if str(one.rejected) == place]
        ((_, record),) = list(log.fetch([letter]))
    assert record is not None
    return letter, record


@pytest.mark.parametrize("size", [40, 25 * 1024 * 1024], ids=["small", "25 MiB"])
def test_poison_becomes_one_letter_byte_for_byte_and_its_neighbours_are_indexed(
    size: int, product: Product, producer: ConfirmedProducer, receipts: Receipts, base: str
) -> None:
    value, key = random.Random(size).randbytes(size), b"\x00\xffno key of ours"
    value = b"\x07" + value[1:]
    # Names of ours among them, the same name twice, an empty and an absent value: they come through as they are.
    headers = [("a", b"1"), ("a", b"2"), ("thalweg.stage", b"x"), ("b", b""), ("c", None), ("\u00fc", b"\xff\x00")]
    before = product.client.publish("left", "Heron to the left.", base)
    place = send(producer, "events", key, value, headers).position
    after = product.client.publish("right", "Heron to the right.", base)

    letter = parked(product, place)

    assert (letter.key, letter.value) == (key, value)
    assert list(letter.headers[: -len(LETTER)]) == headers
    assert tuple(name for name, _ in letter.headers[-len(LETTER) :]) == LETTER
    assert letter.header("__streams.errors.exception") == "undecodable"
    assert letter.header("thalweg.error.class") == "never"
    assert letter.header("thalweg.stage") == "capture"
    assert set(receipts.stages(receipts.wait([before, after]))) == {"INDEXED"}
    assert product.metric("capture", "thalweg_dead_letters_total", stage="capture", reason="undecodable") >= 1


def test_a_letter_is_listed_and_shown_with_its_original_bytes(
    product: Product, producer: ConfirmedProducer, tmp_path: Path
) -> None:
    value = b"\x07not a record " + uuid.uuid4().bytes
    place = send(producer, "events", b"no-key", value, [("trace", b"7")]).position
    parked(product, place)

    listed = letter_of(product, place)
    shown = dlq(product, "show", listed["id"], "--raw", str(tmp_path / "raw"))
    text = run_dlq(product, "show", listed["id"])

    assert (listed["stage"], listed["reason"], listed["state"]) == ("capture", "undecodable", "parked")
    assert (shown["value"], shown["value_hex"], shown["headers"]) == (None, value.hex(), [["trace", "7"]])
    assert (tmp_path / "raw").read_bytes() == value
    assert text.returncode == 0, text.stderr
    assert value[:4].hex(" ") in text.stdout


def test_what_failed_for_a_time_is_redriven_once_however_often_it_is_asked_for(
    product: Product, receipts: Receipts, uploads: Uploads, base: str
) -> None:
    text = f"Grebes dive, says {uuid.uuid4().hex}."
    position = uploads.send("grebe", base, text)
    assert receipts.stages(receipts.wait([position])) == {"FAILED": 1}
    letter = letter_of(product, position)
    assert letter["document"] == f"{product.tenant}/{base}/grebe"
    assert letter["reason"] == "blob_missing"
    uploads.store(text)

    preview = dlq(product, "redrive", letter["id"])
    assert (preview["executed"], preview["would"]) == (False, 1)
    assert letter_of(product, position)["state"] == "parked", "a preview changes nothing"
    # As if a redrive had been interrupted between sending the record and marking the letter.
    with ConfirmedProducer(product.settings.kafka.bootstrap, client_id="tests") as other:
        LetterWriter(other, product.codec).send_back([fetch(product, position)])
    eventually(lambda: text_of(product, "grebe", base) == text, 60)
    first = dlq(product, "redrive", letter["id"], "--execute", "--by", "mara")
    second = dlq(product, "redrive", letter["id"], "--execute", "--by", "mara")

    assert (first["settled"], second["settled"]) == (1, 0)
    now = letter_of(product, position)
    assert (now["state"], now["settled_by"]) == ("redriven", "mara")
    eventually(lambda: [r.stage.value for r in receipts.wait([position])[position]].count("INDEXED") == 2, 60)
    found = receipts.wait([position])[position]
    assert [receipt.stage.value for receipt in found] == ["FAILED", "INDEXED", "INDEXED"]
    assert len({receipt.version for receipt in found}) == 1, "each redrive is the same version of the document"
    assert found[-1].embedded == 0
    entries = [
        product.codec.decode(record.value or b"", AuditEntry)
        for record in records_of(product.settings.kafka.bootstrap, "audit", 1)
    ]
    (entry,) = [entry for entry in entries if entry.resource == letter["id"]]
    assert (entry.actor, entry.action, entry.outcome) == ("mara", "dlq.redrive", "redriven")
    assert entry.detail["record"] == position
    assert entry.tenant == product.tenant


def test_an_old_version_put_back_never_replaces_a_newer_one(
    product: Product, receipts: Receipts, uploads: Uploads, base: str
) -> None:
    old, new = f"Old, says {uuid.uuid4().hex}.", f"New, says {uuid.uuid4().hex}."
    first = uploads.send("swan", base, old)
    assert receipts.stages(receipts.wait([first])) == {"FAILED": 1}
    uploads.store(new)
    second = uploads.send("swan", base, new)
    assert receipts.stages(receipts.wait([second])) == {"INDEXED": 1}
    uploads.store(old)

    # Not by the command, which sees that there is nothing to gain: the record itself, as if it had raced.
    with ConfirmedProducer(product.settings.kafka.bootstrap, client_id="tests") as other:
        LetterWriter(other, product.codec).send_back([fetch(product, first)])
    eventually(lambda: receipts.wait([first])[first][-1].stage.value != "FAILED", 60)

    assert [receipt.stage.value for receipt in receipts.wait([first])[first]] == ["FAILED", "SUPERSEDED"]
    assert text_of(product, "swan", base) == new


def test_a_newer_version_supersedes_its_parked_one(
    product: Product, receipts: Receipts, uploads: Uploads, base: str
) -> None:
    old, new = f"Old, says {uuid.uuid4().hex}.", f"New, says {uuid.uuid4().hex}."
    first = uploads.send("coot", base, old)
    receipts.wait([first])
    assert letter_of(product, first)["state"] == "parked"
    uploads.store(new)
    receipts.wait([uploads.send("coot", base, new)])
    uploads.store(old)

    letter = letter_of(product, first)
    assert letter["state"] == "superseded"
    assert letter["id"] not in {one["id"] for one in dlq(product, "list")["letters"]}, "nobody has to look at it"
    ended = dlq(product, "redrive", letter["id"], "--execute")

    assert [one["state"] for one in ended["letters"]] == ["superseded"]
    assert letter_of(product, first)["settled_at"] is not None
    assert text_of(product, "coot", base) == new
    assert [receipt.stage.value for receipt in receipts.wait([first])[first]] == ["FAILED"], "it was not sent"


def test_letters_are_dropped_by_stage_and_reason_and_not_redriven_after_it(
    product: Product, producer: ConfirmedProducer, receipts: Receipts, uploads: Uploads, base: str
) -> None:
    position = uploads.send("gull", base, f"Never there {uuid.uuid4().hex}.")
    receipts.wait([position])
    place = send(producer, "events", b"x", b"\x07 another stage's").position
    parked(product, place)

    dropped = dlq(product, "drop", "--stage", "parse", "--reason", "blob_missing", "--execute")

    letter = letter_of(product, position)
    assert (letter["state"], letter_of(product, place)["state"]) == ("dropped", "parked")
    assert letter["id"] in {one["id"] for one in dropped["letters"]}
    assert dlq(product, "redrive", letter["id"], "--execute")["settled"] == 0
    assert letter_of(product, position)["state"] == "dropped"


def test_a_forged_way_back_is_parked_and_changes_nothing(
    product: Product, producer: ConfirmedProducer, receipts: Receipts, base: str
) -> None:
    receipts.wait([product.client.publish("owl", "True.", base)])
    letter_headers = [
        ("thalweg.redriven.from", b"events/0@99999999"),
        ("thalweg.redriven.timestamp", b"1"),
        ("thalweg.redriven.letter", b"dead-letters/0@0"),
    ]

    place = send(producer, "events", b"x", b"\x07", letter_headers).position

    assert parked(product, place).header("__streams.errors.exception") == "not_redriven"
