"""Faults of what comes in: records that are none, documents no handler can take, sizes, bombs, everything twice.

Before this: `world.py`. After this: `matrix.py`. What is parked must be parked exactly once, and nothing beside it.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace

import httpx

from deploy.local.apps import code_root
from runtime.producer import Outgoing
from schemas.records import Block, DocumentChange, Event, Operation, Origin, Position, Receipt, ReceiptStage
from tests.faults.fault import Bite
from tests.faults.world import World
from tests.fixtures import make_files
from tests.support.client import eventually
from tests.support.counted import MAX_TEXT_BYTES, MAX_UPLOAD_BYTES
from tests.support.raw_records import read_topic, send_records

MARKER = "unspeakable"
RECORD_BYTES = 41_943_040
ENDED_S = 90.0


def poison(world: World, rng: random.Random) -> Bite:
    """F9: records that nothing of ours wrote, on every topic that a stage reads, among good ones."""
    product, codec = world.product, world.product.codec
    receipt = Receipt("t", "kb", "d", ReceiptStage.INDEXED, "x/0@0", "v", "s", source_ms=1, receipt_ms=2)
    event = codec.encode("events", Event(product.tenant, world.base, "cut", text="A text that is cut.", source="api"))
    kinds: dict[str, tuple[bytes | None, bytes, list[tuple[str, bytes]]]] = {
        "random bytes": (b"k", rng.randbytes(200), []),
        "truncated": (b"k", event[: len(event) // 2], []),
        "another record": (b"k", codec.encode("receipts", receipt), []),
        "JSON": (b"k", b'{"id": "d", "text": "t"}', []),
        "unknown schema": (b"k", b"\x00\x7f\xff\xff\xff" + rng.randbytes(50), []),
        "no key": (None, b"no Avro, no key", []),
        "a header of 1 MB": (b"k", b"no Avro", [("h", rng.randbytes(1_000_000))]),
        "empty": (b"k", b"", []),
    }
    records = [
        Outgoing(topic, key, value, headers)
        for topic in (world.source.spec.topic, "events", "uploads", "documents")
        for key, value, headers in rng.sample(list(kinds.values()), len(kinds))
        # A compacted topic takes no record without a key; the broker refuses it.
        if key is not None or topic != "documents"
    ]
    positions = []
    with world.producer() as producer:
        for record in records:
            (delivery,) = producer.send([record])
            # Known before anybody could wait for a receipt of it.
            world.poison.add(delivery.position)
            positions.append(delivery.position)
            time.sleep(0.02)
    for name in ("capture", "parse", "index"):
        world.processes.live(name)
    return Bite(len(positions), f"{len(kinds)} kinds of record on 4 topics", parked=positions)


def handler_fails(world: World, rng: random.Random) -> Bite:
    """F10: documents at which the index step raises whenever it meets them, and one that the model refuses."""
    product = world.product
    world.models.refuse_texts_with(MARKER)
    world.healing.callback(world.models.refuse_texts_with, None)
    accepted, changes = [], []
    for number in range(3):
        offset = 10**9 + rng.randrange(10**9)
        change = DocumentChange(
            tenant=product.tenant,
            knowledge_base=world.base,
            document_id=f"planted-{rng.getrandbits(40)}",
            operation=Operation.UPSERT,
            position=Position("events/0", 0, offset, 0, int(time.time() * 1000)),
            origin=Origin("event", "api", f"planted-{number}", "events", 0, offset),
            text=f"Planted {number}.",
            # No parser makes such a block: its end lies far beyond the text.
            blocks=[Block("paragraph", 0, 10**6)],
        )
        accepted.append(change.origin.receipt_position)
        changes.append(change)
    changes[2] = replace(changes[2], blocks=None, text=f"It says {MARKER}.")
    with world.producer() as producer:
        sent = producer.send(
            [Outgoing("documents", c.key.encode(), product.codec.encode("documents", c)) for c in changes]
        )
    world.receipts.wait(accepted, ENDED_S)
    stages = world.receipts.stages(accepted)
    assert stages == {"FAILED": 3}, stages
    world.progress()
    return Bite(3, "3 documents, each parked", parked=[delivery.position for delivery in sent], positions=accepted)


def one_in_a_hundred(world: World, rng: random.Random) -> Bite:
    """F36: a batch of a hundred documents, one of which the model refuses: 99 are indexed, one is parked."""
    world.models.refuse_texts_with(MARKER)
    world.healing.callback(world.models.refuse_texts_with, None)
    bad = rng.randrange(100)
    names = [f"hundred-{rng.getrandbits(40)}-{n}" for n in range(100)]
    texts = {name: f"Number {n} of a hundred, {rng.getrandbits(64)}." for n, name in enumerate(names)}
    bad_text = f"This one is {MARKER}."
    documents = [
        {"id": name, "text": bad_text if n == bad else texts[name], "knowledge_base": world.base}
        for n, name in enumerate(names)
    ]

    def captured() -> int:
        return sum(world.product.topics.offsets(["documents"]).values())

    pid = world.processes.stop("index")
    world.healing.callback(world.processes.go_on, pid)
    before = captured()
    answered = world.product.client.ingest.post("/v1/documents", json={"documents": documents})
    assert answered.status_code == 202, answered.text
    positions = [str(told["position"]) for told in answered.json()["documents"]]
    eventually(lambda: captured() >= before + 100, 30)
    world.processes.go_on(pid)
    world.receipts.wait(positions, ENDED_S)
    stages = world.receipts.stages(positions)
    assert stages == {"FAILED": 1, "INDEXED": 99}, stages
    world.load.published |= {name: text for name, text in texts.items() if name != names[bad]}
    (failed,) = [letter for letter in world.letters() if MARKER.encode() in (letter.value or b"")]
    return Bite(1, "99 indexed, 1 parked", parked=[failed.position], positions=positions)


def sizes(world: World, rng: random.Random) -> Bite:
    """F32: one byte at and one over each limit; over it is refused or parked with a reason, never silence."""
    client, base = world.product.client, world.base
    begin = rng.getrandbits(30)

    def text_of(size: int) -> str:
        return "".join(f"{begin + n:08x} " for n in range(size // 9 + 1))[: size - 1] + "."

    def upload(size: int) -> httpx.Response:
        name = f"size-{size}-{rng.getrandbits(32)}.txt"
        data = {"knowledge_base": base, "document_id": name}
        return client.ingest.post("/v1/uploads", files={"file": (name, text_of(size).encode())}, data=data)

    fits, over, largest = upload(MAX_TEXT_BYTES), upload(MAX_TEXT_BYTES + 1), upload(MAX_UPLOAD_BYTES)
    told = [answered.status_code for answered in (fits, over, largest, upload(MAX_UPLOAD_BYTES + 1))]
    assert told == [202, 202, 202, 413], told
    search = {"knowledge_bases": [base], "mode": "keyword"}
    asked: list[tuple[int, httpx.Response]] = [
        (200, client.query.post("/v1/search", json={"query": "a" * 1000, **search})),
        (422, client.query.post("/v1/search", json={"query": "a" * 1001, **search})),
        (200, client.query.post("/v1/search", json={"query": "a", "limit": 100, **search})),
        (422, client.query.post("/v1/search", json={"query": "a", "limit": 101, **search})),
    ]
    for length, status in ((500, 202), (501, 422)):
        name = ("n" * length)[:-9] + f"-{rng.getrandbits(32):08x}"
        body = {"text": "A long name.", "knowledge_base": base}
        answered = client.ingest.put(f"/v1/documents/{name}", json=body)
        asked.append((status, answered))
        if answered.status_code == 202:
            world.load.published[name] = "A long name."
            world.load.positions.append(answered.json()["position"])
    assert all(answered.status_code == status for status, answered in asked), [a.status_code for _, a in asked]
    refused = [answered.json()["position"] for answered in (over, largest)]
    positions = [fits.json()["position"], *refused]
    world.receipts.wait(positions, ENDED_S)
    assert world.receipts.stages(refused) == {"FAILED": 2}, world.receipts.stages(refused)
    world.load.files[fits.json()["document_id"]] = text_of(MAX_TEXT_BYTES)
    # The largest record that the broker takes is no document; parked, it is larger still.
    with world.producer() as producer:
        (delivery,) = producer.send([Outgoing("events", b"k", b"\x01" * (RECORD_BYTES - 100))])
    world.poison.add(delivery.position)
    return Bite(
        len(asked) + 5,
        "at and over: file, text, query, hits, name, record",
        parked=[*refused, delivery.position],
        positions=positions,
    )


def bombs(world: World, rng: random.Random) -> Bite:
    """F42: archives that unpack to a thousand times their size, hold 50,000 entries, nest, lie or overlap."""
    makers: dict[str, Callable[[], bytes]] = {
        "zip-bomb.docx": make_files.make_zip_bomb_docx,
        "many-entries.docx": make_files.make_many_entries_docx,
        "nested.docx": make_files.make_nested_docx,
        "lying.docx": make_files.make_lying_docx,
        "overlapping.docx": make_files.make_overlapping_docx,
        "laughs.docx": lambda: make_files.with_part(
            make_files.make_docx(), "word/document.xml", make_files.BILLION_LAUGHS
        ),
    }
    data, refused, parked = {"knowledge_base": world.base}, 0, []
    for name, make in rng.sample(sorted(makers.items()), len(makers)):
        content = make()
        answered = world.product.client.ingest.post("/v1/uploads", files={"file": (name, content)}, data=data)
        if answered.status_code == 202:
            parked.append(str(answered.json()["position"]))
        else:
            assert answered.status_code in (413, 415, 422), f"{name}: {answered.status_code} {answered.text}"
            refused += 1
    if parked:
        world.receipts.wait(parked, ENDED_S)
        assert world.receipts.stages(parked) == {"FAILED": len(parked)}, world.receipts.stages(parked)
    return Bite(len(makers), f"{refused} refused at once, {len(parked)} parked", parked=parked, positions=parked)


def replayed(world: World, rng: random.Random, *, most: int = 500) -> Bite:
    """F24: the last records of the rows' topic once more, in any order, each fifth of them twice."""
    topic = world.source.spec.topic
    recorded = sorted(read_topic(world.bootstrap, topic), key=lambda record: record.timestamp_ms)
    again = [r for r in recorded if f"{topic}/{r.partition}@{r.offset}" not in world.poison][-most:]
    again += again[::5]
    rng.shuffle(again)
    send_records(world.bootstrap, topic, again)
    return Bite(len(again), f"{len(again)} records again, shuffled")


def same_at_once(world: World, rng: random.Random) -> Bite:
    """F45: one document put 50 times at once, with 50 texts; one file uploaded 50 times at once under one key."""
    client, base = world.product.client, world.base
    name = f"at-once-{rng.getrandbits(40)}"
    texts = [f"Version {n} of it, {rng.getrandbits(64)}." for n in range(50)]
    key = {"Idempotency-Key": str(uuid.UUID(int=rng.getrandbits(128)))}
    content = f"Filed once, {rng.getrandbits(64)}."
    data = {"knowledge_base": base, "document_id": f"{name}.txt"}

    def put(text: str) -> str:
        answered = client.ingest.put(f"/v1/documents/{name}", json={"text": text, "knowledge_base": base})
        assert answered.status_code == 202, answered.text
        return str(answered.json()["position"])

    def upload(_: int) -> str | None:
        files = {"file": (f"{name}.txt", content.encode())}
        answered = client.ingest.post("/v1/uploads", files=files, data=data, headers=key)
        assert answered.status_code in (202, 409), answered.text
        return str(answered.json()["position"]) if answered.status_code == 202 else None

    with ThreadPoolExecutor(16) as pool:
        positions = list(pool.map(put, texts))
        uploads = {found for found in pool.map(upload, range(50)) if found}
    assert len(uploads) == 1, f"one Idempotency-Key, {len(uploads)} uploads"
    newest = max(range(50), key=lambda n: int(positions[n].rpartition("@")[2]))
    world.load.published[name] = texts[newest]
    world.load.files[f"{name}.txt"] = content
    return Bite(100, "50 versions and 50 times one file at once", positions=[*positions, *uploads])


def uploads_interrupted(world: World, rng: random.Random) -> Bite:
    """F33: files sent while the upload API is killed again and again; each is sent again under its key until taken."""
    base = world.base
    contents = {f"interrupted-{n}-{rng.getrandbits(32)}.txt": f"File {n}, {rng.getrandbits(64)}." for n in range(40)}

    def send(name: str) -> None:
        key = {"Idempotency-Key": f"key-{name}"}

        def once() -> None:
            files = {"file": (name, contents[name].encode())}
            url = world.product.client.ingest.base_url
            with httpx.Client(base_url=url, headers=world.product.client.ingest.headers, trust_env=False) as http:
                answered = http.post("/v1/uploads", files=files, data={"knowledge_base": base}, headers=key)
            if answered.status_code in (409, 503):
                raise ConnectionRefusedError(answered.text)
            assert answered.status_code == 202, answered.text
            world.load.files[answered.json()["document_id"]] = contents[name]
            world.load.positions.append(answered.json()["position"])

        world.load.until_taken(once)

    kills = 0
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(send, name) for name in contents]
        while kills < 3 or not all(future.done() for future in sent):
            with suppress(AssertionError):
                time.sleep(rng.uniform(0.1, 0.8))
                if kills < 5:
                    world.processes.kill("upload")
                    kills += 1
                    world.processes.live("upload")
            time.sleep(0.1)
        wait(sent)
    for future in sent:
        future.result()
    return Bite(kills, f"upload API killed {kills} times among {len(contents)} files")


def huge_document(world: World, rng: random.Random) -> Bite:
    """F37: a document of more than 12,000 chunks, then deleted: nothing of it may be left."""
    words = [f"word{n}" for n in range(200)]
    paragraphs = [f"Part {n}: {' '.join(rng.choices(words, k=100))}." for n in range(6_300)]
    name = f"huge-{rng.getrandbits(40)}"
    body = {"text": "\n\n".join(paragraphs), "knowledge_base": world.base}
    client = world.product.client
    answered = client.ingest.put(f"/v1/documents/{name}", json=body, timeout=60)
    assert answered.status_code == 202, answered.text
    first = str(answered.json()["position"])
    world.receipts.wait([first], 500)
    found = client.document(name, world.base)
    assert found is not None
    assert found["chunk_count"] > 12_000, found["chunk_count"]
    answered = client.ingest.delete(f"/v1/documents/{name}", params={"knowledge_base": world.base})
    assert answered.status_code == 202, answered.text
    return Bite(1, f"{found['chunk_count']} chunks deleted", positions=[first, str(answered.json()["position"])])


def aborted_transactions(world: World, rng: random.Random) -> Bite:
    """F35: old row changes again in a transaction that is aborted, and in one whose producer is killed in it."""
    topic = world.source.spec.topic
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.open_transaction", world.bootstrap, topic],
        env={**os.environ, "PYTHONPATH": str(code_root())},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        said = child.stdout.readline().strip()
    finally:
        child.kill()
        child.communicate()
    assert said == "open", "the transactions did not come about"
    # The broker ends the open one after its time; who reads committed records only has to wait for that.
    time.sleep(22 + rng.random())
    world.source.execute("UPDATE {table} SET title = title || '!'")
    return Bite(2, "one transaction aborted, one left open by a killed producer")
