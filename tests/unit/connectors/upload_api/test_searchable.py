"""`?wait=searchable` of documents: what is told of each once all have ended, or the time is up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from schemas.records import ReceiptStage
from tests.unit.connectors.upload_api.world import EDITOR, World, upload_world

ONE = {"text": "hello", "knowledge_base": "shop"}
MANY = {"documents": [{"id": name, **ONE} for name in ("a", "b", "c")]}


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with upload_world(tmp_path) as made:
        yield made


async def publish(world: World, query: str = "", body: Any = MANY) -> httpx.Response:
    return await world.client.post(f"/v1/documents{query}", json=body, headers={"X-API-Key": EDITOR})


def states(answered: httpx.Response) -> list[tuple[str, str | None]]:
    assert answered.status_code == 202, answered.text
    return [(document["state"], document["reason"]) for document in answered.json()["documents"]]


async def test_the_answer_comes_once_every_document_has_ended_and_says_how(world: World) -> None:
    waiting = asyncio.create_task(publish(world, "?wait=searchable&timeout=20"))
    await asyncio.wait_for(world.receipts.waiting.wait(), 10)
    world.receipts.end("events/0@2", ReceiptStage.SUPERSEDED)
    world.receipts.end("events/0@0", ReceiptStage.INDEXED)
    async with asyncio.timeout(10):
        while world.receipts.looks < 2:  # a round later it waits on, for the one that is left
            assert not waiting.done()
            await asyncio.sleep(0.01)

    world.receipts.end("events/0@1", ReceiptStage.FAILED, reason="too_many_chunks")

    answered = await asyncio.wait_for(waiting, 10)
    assert states(answered) == [("searchable", None), ("failed", "too_many_chunks"), ("searchable", None)]
    assert [document["position"] for document in answered.json()["documents"]] == [f"events/0@{at}" for at in range(3)]


async def test_one_document_that_is_put_can_be_waited_for_too(world: World) -> None:
    world.receipts.end("events/0@0", ReceiptStage.INDEXED)

    answered = await world.client.put("/v1/documents/a?wait=searchable", json=ONE, headers={"X-API-Key": EDITOR})

    assert (answered.status_code, answered.json()) == (
        202,
        {"document_id": "a", "position": "events/0@0", "state": "searchable", "reason": None},
    )


async def test_when_the_time_is_up_what_has_not_ended_is_received_and_no_more(world: World) -> None:
    world.receipts.end("events/0@1", ReceiptStage.INDEXED)

    answered = await asyncio.wait_for(publish(world, "?wait=searchable&timeout=0.05"), 10)

    assert states(answered) == [("received", None), ("searchable", None), ("received", None)]


async def test_without_wait_nobody_is_asked_and_nothing_is_said_of_it(world: World) -> None:
    answered = await publish(world, "?timeout=5")

    assert answered.json()["documents"][0] == {"document_id": "a", "position": "events/0@0"}
    assert world.receipts.looks == 0


async def test_why_a_document_of_another_tenant_failed_is_not_told(world: World) -> None:
    """A position is its record's alone; should two tenants ever have the same, nothing crosses."""
    for at in range(3):
        world.receipts.end(f"events/0@{at}", ReceiptStage.FAILED, reason="theirs", tenant="other")

    assert "theirs" not in (await publish(world, "?wait=searchable&timeout=0")).text


async def test_a_process_that_is_to_end_answers_soon(world: World) -> None:
    waiting = asyncio.create_task(publish(world, "?wait=searchable&timeout=300"))
    await asyncio.wait_for(world.receipts.waiting.wait(), 10)

    world.stop.append(True)

    assert states(await asyncio.wait_for(waiting, 10)) == [("received", None)] * 3


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?wait=indexed", "wait"),
        ("?wait=searchable&timeout=301", "timeout"),
        ("?wait=searchable&timeout=-1", "timeout"),
    ],
)
async def test_a_wait_that_is_none_is_refused_and_nothing_is_published(world: World, query: str, field: str) -> None:
    answered = await publish(world, query)

    assert (answered.status_code, answered.json()["errors"][0]["field"]) == (422, field)
    assert world.log.records == []
