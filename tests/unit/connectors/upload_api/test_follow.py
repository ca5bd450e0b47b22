from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from connectors.upload_api.ports import StageSeen, UploadState
from connectors.upload_api.progress import UploadProgress, fold
from runtime.producer import Delivery
from schemas.records import Receipt, ReceiptStage, Upload
from tests.unit.connectors.upload_api.world import ADMIN, EDITOR, OTHER, World, upload_world

ALL = [ReceiptStage.PARSED, ReceiptStage.CHUNKED, ReceiptStage.EMBEDDED, ReceiptStage.INDEXED]


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with upload_world(tmp_path, stream_limit_s=0.3) as made:
        yield made


async def uploaded(world: World) -> str:
    return str((await world.upload()).json()["upload_id"])


async def events(world: World, upload_id: str, last: str | None = None) -> list[tuple[str, str, dict[str, Any]]]:
    headers = {"X-API-Key": ADMIN, **({"Last-Event-ID": last} if last else {})}
    answer = await asyncio.wait_for(world.client.get(f"/v1/uploads/{upload_id}/events", headers=headers), 10)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    found = []
    for block in answer.text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in lines:
            found.append((lines.get("id", ""), lines["event"], json.loads(lines["data"])))
    return found


async def test_every_state_is_an_event_and_the_last_one_ends_the_stream(world: World) -> None:
    upload_id = await uploaded(world)
    for stage in ALL:
        world.receipt(upload_id, stage, chunks=3, embedded=2, reused=1)
    found = await events(world, upload_id)
    names = ["received", "parsed", "chunked", "embedded", "searchable"]
    assert [(number, name) for number, name, _ in found] == list(zip("12345", names, strict=True))
    assert found[-1][2]["chunks"] == 3
    shown = (await world.client.get(f"/v1/uploads/{upload_id}", headers={"X-API-Key": ADMIN})).json()
    assert (shown["state"], shown["chunks"], shown["embedded"], shown["reused"]) == ("searchable", 3, 2, 1)
    assert [stage["state"] for stage in shown["stages"]] == names


async def test_a_failure_ends_the_stream_with_its_reason(world: World) -> None:
    upload_id = await uploaded(world)
    world.receipt(upload_id, ReceiptStage.FAILED, reason="encrypted")
    found = await events(world, upload_id)
    assert [name for _, name, _ in found] == ["received", "failed"]
    assert found[-1][2]["reason"] == "encrypted"


async def test_a_stream_resumes_after_the_last_event_it_had(world: World) -> None:
    upload_id = await uploaded(world)
    for stage in ALL:
        world.receipt(upload_id, stage)
    assert [name for _, name, _ in await events(world, upload_id, last="3")] == ["embedded", "searchable"]
    assert (await events(world, upload_id, last="x"))[0][1] == "received"


async def test_a_state_that_comes_while_somebody_listens_is_told_at_once(world: World) -> None:
    upload_id = await uploaded(world)

    async def pipeline() -> None:
        for stage in ALL:
            await asyncio.sleep(0.02)
            await asyncio.to_thread(world.receipt, upload_id, stage)

    told, _ = await asyncio.gather(events(world, upload_id), pipeline())
    assert [name for _, name, _ in told][-1] == "searchable"


async def test_a_stream_without_news_ends_at_its_deadline_with_a_terminal_event(world: World) -> None:
    upload_id = await uploaded(world)
    number, name, data = (await events(world, upload_id))[-1]
    assert (number, name) == ("", "failed")  # no id: it is no state, and who resumes gets what became of it
    assert "still in the queue" in data["reason"]
    shown = (await world.client.get(f"/v1/uploads/{upload_id}", headers={"X-API-Key": ADMIN})).json()
    assert shown["state"] == "received"


async def test_who_resumes_after_that_gets_the_real_end_and_who_has_it_is_told_to_stop(world: World) -> None:
    upload_id = await uploaded(world)
    assert (await events(world, upload_id))[-1][1] == "failed"
    world.receipt(upload_id, ReceiptStage.INDEXED)
    assert (await events(world, upload_id, last="1"))[-1][:2] == ("5", "searchable")
    headers = {"X-API-Key": ADMIN, "Last-Event-ID": "5"}
    ended = await world.client.get(f"/v1/uploads/{upload_id}/events", headers=headers)
    assert (ended.status_code, ended.content) == (204, b"")


@pytest.mark.parametrize("last", ["9" * 5000, "\u0663", "-1", "1.5", ""])
async def test_an_id_that_is_none_of_ours_begins_at_the_beginning(world: World, last: str) -> None:
    upload_id = await uploaded(world)
    world.receipt(upload_id, ReceiptStage.INDEXED)
    headers = [(b"X-API-Key", ADMIN.encode()), (b"Last-Event-ID", last.encode())]
    answer = await world.client.get(f"/v1/uploads/{upload_id}/events", headers=headers)
    assert (answer.status_code, "event: received" in answer.text) == (200, True)


@pytest.mark.parametrize("path", ["", "/events"])
async def test_an_upload_that_another_replica_just_accepted_is_waited_for(
    world: World, tmp_path: Path, path: str
) -> None:
    upload_id = await uploaded(world)
    world.receipt(upload_id, ReceiptStage.INDEXED)
    async with upload_world(tmp_path / "replica") as replica:
        asked = asyncio.create_task(replica.client.get(f"/v1/uploads/{upload_id}{path}", headers={"X-API-Key": ADMIN}))
        while upload_id not in replica.progress._waiters:
            assert not asked.done()
            await asyncio.sleep(0.001)
        replica.progress.take_upload(world.log.uploads[0], "uploads/0@0")
        replica.progress.take_receipt(receipt(ReceiptStage.INDEXED, upload_id=upload_id))
        answer = await asked
        assert answer.status_code == 200
        assert "received" in answer.text


async def test_streams_end_when_the_process_is_told_to_stop(world: World) -> None:
    upload_id = await uploaded(world)
    world.stop.append(True)
    assert [name for _, name, _ in await events(world, upload_id)] == ["received"]


async def test_what_can_be_no_id_is_not_waited_for(world: World) -> None:
    answer, took_s = await timed(world, "/v1/uploads/unknown", ADMIN)
    assert (answer.status_code, took_s < 0.4) == (404, True)


async def timed(world: World, path: str, key: str) -> tuple[httpx.Response, float]:
    started = time.monotonic()
    answer = await world.client.get(path, headers={"X-API-Key": key})
    return answer, time.monotonic() - started


@pytest.mark.parametrize("path", ["", "/events"])
async def test_nobody_sees_the_uploads_of_others(world: World, path: str) -> None:
    upload_id = str((await world.upload(knowledge_base="private")).json()["upload_id"])
    for key in (OTHER, EDITOR):
        answer, took_s = await timed(world, f"/v1/uploads/{upload_id}{path}", key)
        unknown, took_unknown_s = await timed(world, f"/v1/uploads/{uuid.uuid4()}{path}", key)
        assert min(took_s, took_unknown_s) >= 0.5  # both wait for what another replica may have accepted
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/upload-not-found")
        assert answer.json()["detail"] == unknown.json()["detail"]


UPLOAD = Upload("u", "acme", "shop", "d", "d.txt", "txt", 1, "0", "b", received_ms=1)


def receipt(stage: ReceiptStage, tenant: str = "acme", upload_id: str = "u", **more: Any) -> Receipt:
    return Receipt(
        tenant,
        "shop",
        "d",
        stage,
        "uploads/0@0",
        "v",
        "uploads",
        upload_id=upload_id,
        receipt_ms=2,
        source_ms=1,
        **more,
    )


def states(state: UploadState | None) -> list[str]:
    return [] if state is None else [stage.state for stage in state.stages]


def test_receipts_before_the_upload_itself_are_not_lost() -> None:
    progress = UploadProgress()
    progress.take_receipt(receipt(ReceiptStage.PARSED))
    progress.take_upload(UPLOAD, "uploads/0@0")
    found = progress.find("u")
    assert states(found) == ["received", "parsed"]
    assert found is not None
    assert (found.filename, found.position) == ("d.txt", "uploads/0@0")
    assert found.stages[0] == StageSeen("received", 1)


def test_a_state_never_goes_back_and_never_repeats() -> None:
    state = fold(None, receipt(ReceiptStage.EMBEDDED))
    assert states(state) == ["received", "parsed", "chunked", "embedded"]
    assert fold(state, receipt(ReceiptStage.PARSED)) is state
    assert fold(state, receipt(ReceiptStage.EMBEDDED)) is state


def test_nothing_follows_an_end() -> None:
    ended = fold(None, receipt(ReceiptStage.INDEXED, chunks=4))
    assert fold(ended, receipt(ReceiptStage.FAILED, reason="rebuild")) is ended
    failed = fold(None, receipt(ReceiptStage.FAILED, reason="r"))
    assert states(failed) == ["received", "failed"]
    assert fold(failed, receipt(ReceiptStage.INDEXED)) is failed


def test_a_newer_version_ends_an_upload_and_says_so() -> None:
    state = fold(None, receipt(ReceiptStage.SUPERSEDED))
    assert state is not None
    assert (state.state, state.superseded) == ("searchable", True)


def test_a_receipt_of_another_tenant_changes_nothing() -> None:
    state = fold(None, receipt(ReceiptStage.PARSED))
    assert fold(state, receipt(ReceiptStage.INDEXED, tenant="evil")) is state


def test_memory_is_bounded() -> None:
    progress = UploadProgress(capacity=2)
    for name in "abc":
        progress.accepted(Upload(name, "acme", "shop", name, name, "txt", 1, "0", "b"), Delivery("uploads", 0, 0, 0))
    assert progress.find("a") is None
    assert progress.find("c") is not None
