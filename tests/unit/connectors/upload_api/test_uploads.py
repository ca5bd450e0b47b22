from __future__ import annotations

import asyncio
import hashlib
import io
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from runtime.producer import DeliveryFailed
from schemas.records import ReceiptStage
from tests.unit.connectors.upload_api.world import ADMIN, EDITOR, OTHER, QUERY, TEXT, VIEWER, World, upload_world

PROGRAM = b"MZ\x90\x00" + bytes(range(256)) * 20


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with upload_world(tmp_path) as made:
        yield made


def problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"/problems/{kind}"
    assert body["detail"]
    return body


def nothing_happened(world: World) -> None:
    assert world.log.records == []
    assert world.spooled == []
    assert world.blobs == []


async def test_an_accepted_file_is_stored_and_told_before_the_answer(world: World) -> None:
    answer = await world.upload(title="T", metadata='{"year": 2026}', access="bob, eve", document_id="reports/1")
    assert answer.status_code == 202
    (upload,) = world.log.uploads
    body = answer.json()
    assert body == {"upload_id": upload.upload_id, "document_id": "reports/1", "position": "uploads/0@0"}
    assert answer.headers["location"] == f"/v1/uploads/{upload.upload_id}"
    assert (upload.tenant, upload.knowledge_base, upload.kind, upload.title) == ("acme", "shop", "txt", "T")
    assert (upload.metadata, upload.access) == ({"year": 2026}, ["bob", "eve"])
    assert upload.sha256 == hashlib.sha256(TEXT).hexdigest()
    assert upload.size == len(TEXT)
    assert upload.request_id == answer.headers["x-request-id"]
    (blob,) = world.blobs
    assert blob.read_bytes() == TEXT
    assert upload.blob == f"blob:{blob.relative_to(world.folder / 'blobs')}"
    assert world.spooled == []


@pytest.mark.parametrize(
    ("name", "document_id"),
    [
        ("report.txt", "report.txt"),
        ("C:\\Users\\ann\\report.txt", "report.txt"),
        ("../../etc/passwd.txt", "passwd.txt"),
        ("a\u202eb.txt", "ab.txt"),
        ("..", f"sha256-{hashlib.sha256(TEXT).hexdigest()[:32]}"),
    ],
)
async def test_the_name_of_a_file_names_its_document(world: World, name: str, document_id: str) -> None:
    assert (await world.upload(name=name)).json()["document_id"] == document_id


async def test_a_list_of_readers_may_be_json(world: World) -> None:
    assert (await world.upload(access='["a b", "c"]')).status_code == 202
    assert world.log.uploads[0].access == ["a b", "c"]


async def test_a_file_over_the_limit_is_refused_and_leaves_nothing(world: World) -> None:
    body = problem(await world.upload(b"x" * 100_001), 413, "too-large")
    assert body["errors"][0]["field"] == "file"
    assert body["max_bytes"] == 100_000
    nothing_happened(world)
    assert (await world.upload(b"x" * 100_000)).status_code == 202


async def test_a_body_whose_length_says_it_is_too_large_is_not_even_read(world: World) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield b"x" * 100_000

    headers = {"X-API-Key": ADMIN, "Content-Type": "multipart/form-data; boundary=b", "Content-Length": "10000000"}
    problem(await world.client.post("/v1/uploads", content=body(), headers=headers), 413, "too-large")
    assert read == 0
    nothing_happened(world)


async def test_an_endless_body_is_cut_off_at_the_limit(world: World) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        while True:
            sent += 10_000
            yield b"x" * 10_000

    headers = {"X-API-Key": ADMIN, "Content-Type": "multipart/form-data; boundary=b"}
    problem(await world.client.post("/v1/uploads", content=body(), headers=headers), 413, "too-large")
    assert sent <= 120_000
    nothing_happened(world)


@pytest.mark.parametrize("name", ["setup.exe", "report.txt", "report.pdf", "report.docx"])
async def test_a_program_is_refused_whatever_it_is_called(world: World, name: str) -> None:
    body = problem(await world.upload(PROGRAM, name), 415, "unsupported-media-type")
    assert "pdf" in body["accepted"]
    nothing_happened(world)


async def test_an_archive_is_refused(world: World) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("report.txt", "text")
    problem(await world.upload(packed.getvalue(), "report.docx"), 415, "unsupported-media-type")
    nothing_happened(world)


@pytest.mark.parametrize("kind", ["application/vnd.oasis.opendocument.text", "application/epub+zip", None])
async def test_containers_of_other_kinds_are_refused_whatever_they_are_called(world: World, kind: str | None) -> None:
    """An ODT, an EPUB, an archive within an archive: nothing unpacks them, so nothing has to count what comes out."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        if kind is not None:
            archive.writestr("mimetype", kind)
        archive.writestr("content.xml" if kind else "inner.zip", b"PK\x03\x04" + b"0" * 1000)
    for name in ("report.docx", "report.odt", "report.epub", "report.txt"):
        problem(await world.upload(packed.getvalue(), name), 415, "unsupported-media-type")
    nothing_happened(world)


async def test_nobody_learns_that_another_tenant_has_the_same_bytes(world: World) -> None:
    ours = await world.upload()
    theirs = await world.upload(key=OTHER)
    again = await world.upload()
    assert {answer.status_code for answer in (ours, theirs, again)} == {202}
    assert ours.json().keys() == theirs.json().keys() == again.json().keys()
    assert len({answer.json()["upload_id"] for answer in (ours, theirs, again)}) == 3
    assert sorted(path.relative_to(world.folder / "blobs").parts[0] for path in world.blobs) == ["acme", "other"]
    assert {upload.blob.split("/")[0] for upload in world.log.uploads} == {"blob:acme", "blob:other"}


async def test_an_empty_file_is_refused(world: World) -> None:
    body = problem(await world.upload(b""), 422, "validation-failed")
    assert body["errors"] == [{"field": "file", "message": "is empty", "fix": "send a file with content"}]
    nothing_happened(world)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"knowledge_base": ""}, "knowledge_base"),
        ({"knowledge_base": "a/b"}, "knowledge_base"),
        ({"metadata": "{"}, "metadata"),
        ({"metadata": "[1]"}, "metadata"),
        ({"metadata": '{"a": {"b": 1}}'}, "metadata.a"),
        ({"access": "[1"}, "access"),
        ({"access": '{"a": 1}'}, None),
        ({"document_id": "a\nb"}, "document_id"),
        ({"document_id": "x" * 501}, "document_id"),
        ({"tenant": "other"}, "tenant"),
        ({"vector": "[]"}, "vector"),
    ],
)
async def test_a_wrong_field_is_named_with_its_fix(world: World, fields: dict[str, str], field: str | None) -> None:
    if field is None:
        assert (await world.upload(**fields)).status_code in (202, 422)
        return
    body = problem(await world.upload(**fields), 422, "validation-failed")
    assert body["errors"][0]["field"].startswith(field)
    assert body["errors"][0]["fix"]
    nothing_happened(world)


@pytest.mark.parametrize(
    ("content_type", "content", "status", "kind"),
    [
        ("application/json", b"{}", 415, "unsupported-media-type"),
        ("multipart/form-data", b"", 415, "unsupported-media-type"),
        ("multipart/form-data; boundary=b", b"--b\r\n", 400, "malformed-request"),
        ("multipart/form-data; boundary=b", b"garbage", 400, "malformed-request"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhalf',
            400,
            "malformed-request",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="knowledge_base"\r\n\r\nshop\r\n--b--\r\n',
            422,
            "validation-failed",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--b--\r\n',
            422,
            "validation-failed",
        ),
    ],
)
async def test_a_body_that_is_no_form_is_refused(
    world: World, content_type: str, content: bytes, status: int, kind: str
) -> None:
    headers = {"X-API-Key": ADMIN, "Content-Type": content_type}
    problem(await world.client.post("/v1/uploads", content=content, headers=headers), status, kind)
    nothing_happened(world)


async def test_too_many_parts_are_refused(world: World) -> None:
    body = problem(await world.upload(**{f"f{n}": "x" for n in range(20)}), 422, "validation-failed")
    assert "parts" in body["detail"]
    nothing_happened(world)


async def test_a_field_of_megabytes_is_refused(world: World) -> None:
    problem(await world.upload(metadata=" " * 300_000), 422, "validation-failed")
    nothing_happened(world)


async def test_no_key_and_a_wrong_key_are_refused_before_the_body_is_read(world: World) -> None:
    answer = await world.upload(key=None)
    problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    problem(await world.upload(key="tw_nobody"), 401, "unauthenticated")
    nothing_happened(world)


async def test_a_key_without_the_scope_or_the_role_is_refused(world: World) -> None:
    problem(await world.upload(key=QUERY), 403, "forbidden")
    problem(await world.upload(key=VIEWER), 403, "forbidden")
    problem(await world.upload(key=EDITOR, knowledge_base="secret"), 404, "knowledge-base-not-found")
    nothing_happened(world)
    assert (await world.upload(key=EDITOR)).status_code == 202


async def test_an_unknown_knowledge_base_is_made_by_an_admin_and_by_nobody_else(world: World) -> None:
    problem(await world.upload(key=EDITOR, knowledge_base="new"), 404, "knowledge-base-not-found")
    assert world.people.written == []
    assert (await world.upload(key=ADMIN, knowledge_base="new")).status_code == 202
    assert [entry.id for entry in world.people.written] == ["acme/new"]
    assert (await world.upload(key=EDITOR, knowledge_base="new")).status_code == 202


async def test_while_knowledge_bases_are_unknown_the_caller_is_asked_to_come_again(world: World) -> None:
    world.people.ready = False
    answer = await world.upload(key=EDITOR, knowledge_base="new")
    problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"]


async def test_a_record_that_kafka_did_not_confirm_is_no_upload(world: World) -> None:
    world.log.failure = DeliveryFailed("uploads: timed out", retriable=True)
    answer = await world.upload(headers={"Idempotency-Key": "k"})
    problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"]
    assert world.spooled == []
    world.log.failure = None
    again = await world.upload(headers={"Idempotency-Key": "k"})
    assert again.status_code == 202
    assert len(world.log.uploads) == 1


async def test_fifty_times_the_same_file_at_once_is_one_document(world: World) -> None:
    answers = await asyncio.gather(*(world.upload() for _ in range(50)))
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["document_id"] for answer in answers} == {"report.txt"}
    assert len({answer.json()["upload_id"] for answer in answers}) == 50
    assert len(world.blobs) == 1
    assert world.spooled == []


async def test_waiting_answers_once_it_is_searchable(world: World) -> None:
    key = {"Idempotency-Key": "k"}
    upload_id = (await world.upload(headers=key)).json()["upload_id"]
    waiting = asyncio.create_task(world.upload(headers=key, query="?wait=searchable&timeout=20"))
    await asyncio.sleep(0.05)  # so that it most likely waits already; right either way
    assert not waiting.done()
    world.receipt(upload_id, ReceiptStage.INDEXED, chunks=2)
    body = (await waiting).json()
    assert (body["state"], body["reason"]) == ("searchable", None)


async def test_waiting_ends_with_the_time_given(world: World) -> None:
    answer = await world.upload(query="?wait=searchable&timeout=0.05")
    assert (answer.status_code, answer.json()["state"]) == (202, "received")
    problem(await world.upload(query="?wait=indexed"), 422, "validation-failed")


async def test_a_caller_who_hangs_up_leaves_nothing(world: World) -> None:
    half = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhalf'
    messages = [{"type": "http.request", "body": half, "more_body": True}, {"type": "http.disconnect"}]
    answered: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        answered.append(message)

    headers = [(b"x-api-key", ADMIN.encode()), (b"content-type", b"multipart/form-data; boundary=b")]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": "/v1/uploads", "raw_path": b"/v1/uploads", "query_string": b"", "headers": headers}
    await world.app(scope, receive, send)
    assert answered[0]["status"] == 400
    nothing_happened(world)


async def test_a_sender_without_news_is_cut_off(tmp_path: Path) -> None:
    async with upload_world(tmp_path, idle_s=0.1) as world:
        never = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhalf'
            await never.wait()

        headers = {"X-API-Key": ADMIN, "Content-Type": "multipart/form-data; boundary=b"}
        answer = await asyncio.wait_for(world.client.post("/v1/uploads", content=body(), headers=headers), 10)
        problem(answer, 408, "timeout")
        nothing_happened(world)


async def test_a_sender_of_a_few_bytes_a_second_is_cut_off(tmp_path: Path) -> None:
    async with upload_world(tmp_path, grace_s=0.1) as world:

        async def body() -> AsyncIterator[bytes]:
            while True:
                yield b"-"
                await asyncio.sleep(0.01)

        headers = {"X-API-Key": ADMIN, "Content-Type": "application/json"}
        answer = await asyncio.wait_for(world.client.put("/v1/documents/1", content=body(), headers=headers), 10)
        problem(answer, 408, "timeout")
