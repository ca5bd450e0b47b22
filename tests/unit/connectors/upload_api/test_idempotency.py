from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from connectors.upload_api.upload_keys import EXPIRY_MS, LEASE_MS, TooManyKeys, UploadKeys, fold
from runtime.producer import DeliveryFailed
from schemas.records import UploadKey, UploadKeyStep
from tests.unit.connectors.upload_api.world import ADMIN, EDITOR, OTHER, TEXT, Log, World, upload_world

KEY = {"Idempotency-Key": "k"}
AWAY = DeliveryFailed("timed out", retriable=True)
CLAIMED, ACCEPTED, RELEASED = UploadKeyStep.CLAIMED, UploadKeyStep.ACCEPTED, UploadKeyStep.RELEASED


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with upload_world(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def replica(world: World, tmp_path: Path) -> AsyncIterator[World]:
    """Another one beside `world`, on the same Kafka and the same blobs."""
    async with upload_world(tmp_path / "replica", log=world.log) as made:
        yield made


def problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body["type"] == f"/problems/{kind}"
    return body


async def test_the_same_request_twice_is_one_upload(world: World) -> None:
    first = await world.upload(headers={"Idempotency-Key": "k-1"})
    again = await world.upload(headers={"Idempotency-Key": '"k-1"'})
    assert (again.status_code, again.json()) == (202, first.json())
    assert len(world.log.uploads) == 1
    assert world.log.steps == [CLAIMED, ACCEPTED]


async def test_a_key_with_another_file_or_other_fields_is_refused(world: World) -> None:
    await world.upload(headers=KEY)
    for answer in (await world.upload(b"other text", headers=KEY), await world.upload(title="other", headers=KEY)):
        problem(answer, 422, "idempotency-key-reused")
    assert len(world.log.uploads) == 1
    assert len(world.blobs) == 1
    assert world.spooled == []


async def test_a_key_still_at_work_is_refused_until_it_is_done(world: World) -> None:
    world.log.gate.clear()
    first = asyncio.create_task(world.upload(headers=KEY))
    await asyncio.wait_for(world.log.waiting.wait(), 5)
    problem(await world.upload(headers=KEY), 409, "idempotency-key-in-use")
    world.log.gate.set()
    assert (await first).status_code == 202
    assert (await world.upload(headers=KEY)).status_code == 202
    assert len(world.log.uploads) == 1


async def test_fifty_times_one_request_at_once_is_one_upload(world: World, replica: World) -> None:
    answers = await asyncio.gather(*((world, replica)[n % 2].upload(headers=KEY) for n in range(50)))
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert len({answer.text for answer in answers if answer.status_code == 202}) == 1
    assert len(world.log.uploads) == 1
    assert (world.spooled, replica.spooled) == ([], [])


async def test_a_key_is_its_tenants_and_its_callers_alone(world: World) -> None:
    ours = await world.upload(headers=KEY)
    for somebody in (OTHER, EDITOR):
        theirs = await world.upload(b"other text", key=somebody, headers=KEY)
        assert theirs.status_code == 202
        assert theirs.json()["upload_id"] != ours.json()["upload_id"]


@pytest.mark.parametrize("content", [TEXT, b"other text"])
async def test_two_replicas_given_one_key_at_once_agree_on_one_request(
    world: World, replica: World, content: bytes
) -> None:
    for number in range(20):
        key = {"Idempotency-Key": f"k{number}"}
        ours, theirs = await asyncio.gather(world.upload(headers=key), replica.upload(content, headers=key))
        won, lost = (ours, theirs) if len(world.log.uploads) and ours.status_code == 202 else (theirs, ours)
        assert won.status_code == 202
        if content == TEXT:
            assert (lost.status_code, lost.json()) == (202, won.json())
        else:
            problem(lost, 422, "idempotency-key-reused")
        assert len(world.log.uploads) == number + 1


async def test_a_restart_forgets_no_key_and_a_day_does(world: World, tmp_path: Path) -> None:
    first = await world.upload(headers=KEY)
    async with upload_world(tmp_path / "later", log=world.log) as later:
        again = await later.upload(headers=KEY)
        assert (again.status_code, again.json()) == (202, first.json())
        problem(await later.upload(b"other", headers=KEY), 422, "idempotency-key-reused")
        later.clock[0] += EXPIRY_MS
        assert (await later.upload(b"other", headers=KEY)).status_code == 202
    assert len(world.log.uploads) == 2


async def test_the_turn_of_a_replica_that_died_ends_with_its_lease(world: World, replica: World) -> None:
    world.log.failure_of["uploads"] = AWAY
    world.log.readers[0], theirs = lambda *_: None, world.log.readers[0]  # so that its release is not seen
    problem(await replica.upload(headers=KEY), 503, "unavailable")
    await asyncio.sleep(0)
    world.log.failure_of.clear()
    for _, step in world.log.records[:1]:
        theirs(step, None)  # type: ignore[arg-type]
    waiting = await world.upload(headers=KEY)
    problem(waiting, 409, "idempotency-key-in-use")
    assert int(waiting.headers["retry-after"]) == LEASE_MS // 1000

    world.log.readers[0] = theirs
    world.clock[0] += LEASE_MS
    problem(await world.upload(b"other text", headers=KEY), 422, "idempotency-key-reused")
    assert (await world.upload(headers=KEY)).status_code == 202
    assert len(world.log.uploads) == 1


async def test_a_replica_that_died_before_it_answered_is_answered_for(world: World, replica: World) -> None:
    first = await world.upload(headers=KEY)
    async with upload_world(replica.folder / "third", log=Log()) as third:
        third.keys.take(next(record for _, record in world.log.records if isinstance(record, UploadKey)))
        third.clock[0] += LEASE_MS
        third.progress.take_upload(world.log.uploads[0], "uploads/0@0")
        assert (await third.upload(headers=KEY)).json() == first.json()
        problem(await third.upload(b"other", headers=KEY), 422, "idempotency-key-reused")
        assert third.log.records == []


@pytest.mark.parametrize("topic", ["upload-keys", "uploads"])
async def test_what_kafka_did_not_confirm_is_no_upload_and_may_be_repeated_anywhere(
    world: World, replica: World, topic: str
) -> None:
    world.log.failure_of[topic] = AWAY
    answer = await world.upload(headers=KEY)
    problem(answer, 503, "unavailable")
    assert answer.headers["retry-after"]
    assert world.log.uploads == []
    world.log.failure_of.clear()
    if topic == "uploads":
        async with asyncio.timeout(5):  # the turn is given back beside the answer
            while not any(getattr(record, "step", None) is RELEASED for _, record in world.log.records):  # noqa: ASYNC110  the log has no event
                await asyncio.sleep(0.001)
    again = await replica.upload(headers=KEY)
    assert again.status_code == 202, again.text
    assert (await world.upload(headers=KEY)).json() == again.json()
    assert len(world.log.uploads) == 1


async def test_an_answer_that_could_not_be_told_to_others_is_an_answer(world: World, replica: World) -> None:
    sent = world.log.send_async

    async def no_acceptance(records: Any) -> Any:
        records = list(records)
        if world.log.steps and records[0].topic == "upload-keys":
            raise AWAY
        return await sent(records)

    world.log.send_async = no_acceptance  # type: ignore[method-assign]
    first = await world.upload(headers=KEY)
    assert first.status_code == 202
    replica.progress.take_upload(world.log.uploads[0], "uploads/0@0")
    assert (await replica.upload(headers=KEY)).json() == first.json()
    assert len(world.log.uploads) == 1


async def test_while_the_keys_are_unknown_nothing_with_a_key_is_accepted(world: World, tmp_path: Path) -> None:
    async with upload_world(tmp_path / "young", log=world.log, reads=False) as young:
        problem(await young.upload(headers=KEY), 503, "unavailable")
        assert (young.blobs, young.spooled) == ([], [])
        assert (await young.upload()).status_code == 202
    world.log.readers.clear()
    problem(await world.upload(headers=KEY), 503, "unavailable")
    assert (len(world.log.uploads), world.blobs, world.spooled) == (1, [], [])


@pytest.mark.parametrize("keys", [["a b"], ['""'], [""], ["x" * 300], ["k", "l"]])
async def test_a_malformed_key_is_refused_before_the_body_is_read(world: World, keys: list[str]) -> None:
    headers = [("X-API-Key", ADMIN), ("Content-Type", "multipart/form-data; boundary=b")]
    headers += [("Idempotency-Key", key) for key in keys]
    answer = await world.client.post("/v1/uploads", content=b"garbage", headers=headers)
    body = problem(answer, 400, "malformed-request")
    assert body["errors"][0]["field"] == "Idempotency-Key"


async def test_a_missing_key_is_refused_where_it_is_required(tmp_path: Path) -> None:
    async with upload_world(tmp_path, key_required=True) as world:
        problem(await world.upload(), 400, "idempotency-key-missing")
        assert (await world.upload(headers=KEY)).status_code == 202


async def test_a_request_refused_for_its_own_sake_leaves_the_key_free(world: World) -> None:
    problem(await world.upload(b"MZ\x90\x00" * 50, headers=KEY), 415, "unsupported-media-type")
    problem(await world.upload(title="x" * 2000, headers=KEY), 422, "validation-failed")
    assert world.log.records == []
    assert (await world.upload(headers=KEY)).status_code == 202


async def test_more_keys_than_fit_are_refused_and_forgotten_with_time() -> None:
    keys = UploadKeys(capacity=1)
    keys.take(UploadKey("first", "f", "h", CLAIMED, 0))
    second = UploadKey("second", "f", "h", CLAIMED, 1)

    async def write() -> None:
        keys.take(second)

    with pytest.raises(TooManyKeys):
        await keys.claim(second, write, 1)
    second = UploadKey("second", "f", "h", CLAIMED, 2 * EXPIRY_MS)
    assert await keys.claim(second, write, 1) == second
    assert keys.find("first", 0) is None


HOUR = EXPIRY_MS // 24
STEPS = st.lists(
    st.builds(
        UploadKey,
        upload_id=st.just("u"),
        fingerprint=st.sampled_from("fg"),
        holder=st.sampled_from("ab"),
        step=st.sampled_from(UploadKeyStep),
        at_ms=st.integers(0, 200).map(lambda half: half * HOUR // 2),
        position=st.sampled_from(["uploads/0@1", "uploads/0@2"]),
    ),
    max_size=12,
).map(lambda steps: sorted(steps, key=lambda step: step.at_ms))


def folded(steps: Sequence[UploadKey], now_ms: int) -> UploadKey | None:
    state: UploadKey | None = None
    for step in steps:
        state = fold(state, step)
    return None if state is None or now_ms - state.at_ms >= EXPIRY_MS else state


@given(STEPS)
def test_within_a_day_a_key_never_changes_its_request_nor_its_answer(steps: list[UploadKey]) -> None:
    for end in range(1, len(steps)):
        before, after = folded(steps[:end], steps[end].at_ms), folded(steps[: end + 1], steps[end].at_ms)
        if before is not None:
            assert after is not None
            assert after.fingerprint == before.fingerprint
            assert before.step is not ACCEPTED or after == before


@given(STEPS)
def test_a_replica_that_no_longer_finds_the_oldest_steps_agrees_with_the_others(steps: list[UploadKey]) -> None:
    """Replicas look before they write: what would change nothing is written only in the instant of a race."""
    log: list[UploadKey] = []
    for step in steps:
        if folded([*log, step], step.at_ms) == step:
            log.append(step)
        kept = [item for item in log if step.at_ms - item.at_ms < 2 * EXPIRY_MS]  # as the topic's retention says
        assert folded(kept, step.at_ms) == folded(log, step.at_ms)
