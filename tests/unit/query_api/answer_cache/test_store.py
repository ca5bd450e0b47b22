"""Where answers are kept: one suite for memory and a real Valkey, and what each of them must stand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from query_api.answer_cache.redis_store import PREFIX, RedisStore
from query_api.answer_cache.store import AnswerStore, MemoryStore, StoreUnavailable
from query_api.bootstrap import answer_store
from runtime.settings import SettingsError, load_settings
from runtime.settings_answer_cache import AnswerCache
from tests.support.client import eventually
from tests.support.valkey_server import ValkeyServer, running_valkey

SECRET = "a secret of at least thirty-two characters"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


def shared(server: ValkeyServer, *, secret: str = SECRET, seconds: int = 60, timeout_s: float = 2.0) -> RedisStore:
    return RedisStore(server.url, secret, seconds=seconds, timeout_s=timeout_s)


@pytest.fixture(params=["memory", "valkey"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[AnswerStore]:
    made: AnswerStore
    if request.param == "memory":
        made = MemoryStore(most_bytes=10_000_000, most_entries=1000, seconds=60)
    else:
        made = shared(request.getfixturevalue("valkey"))
    yield made
    await made.close()


async def test_what_was_put_is_given_back_byte_for_byte(store: AnswerStore) -> None:
    value = bytes(range(256)) * 40

    await store.put("given-back", value)
    await store.put("another", b"x")

    assert await store.get("given-back") == value
    assert await store.get("never-put") is None


async def test_the_last_value_under_a_name_counts(store: AnswerStore) -> None:
    await store.put("twice", b"first")
    await store.put("twice", b"second")

    assert await store.get("twice") == b"second"


async def test_memory_stays_within_its_bytes_and_entries_whatever_comes() -> None:
    store = MemoryStore(most_bytes=5_000, most_entries=8, seconds=60)
    for number in range(200):
        await store.put(f"n{number}", bytes(number * 7))
        await store.get("n3")
        assert store.size <= 5_000
        assert len(store) <= 8

    assert await store.get("n199") is not None
    assert await store.get("n3") is None or len(store) > 1
    await store.put("n199", bytes(6_000))
    assert await store.get("n199") is None, "what has no room is not kept, and nothing older in its place"


async def test_what_was_asked_for_lately_stays_longest() -> None:
    store = MemoryStore(most_bytes=10_000, most_entries=2, seconds=60)
    await store.put("old", b"1")
    await store.put("older", b"2")
    await store.get("old")
    await store.put("new", b"3")

    assert [await store.get(name) for name in ("old", "older", "new")] == [b"1", None, b"3"]


async def test_memory_forgets_in_time_however_often_it_is_asked() -> None:
    now = [0.0]
    store = MemoryStore(most_bytes=10_000, most_entries=10, seconds=5, clock=lambda: now[0])
    await store.put("a", b"1")
    now[0] = 4.9
    assert await store.get("a") == b"1"
    now[0] = 5.0

    assert await store.get("a") is None
    assert store.size == 0


async def test_replicas_share_and_the_server_forgets_in_time(valkey: ValkeyServer) -> None:
    one, other = shared(valkey, seconds=77), shared(valkey)
    await one.put("shared", b"value")

    assert await other.get("shared") == b"value"
    with valkey.client() as client:
        (name,) = [name for name in client.scan_iter(f"{PREFIX}*") if 60 < client.ttl(name) <= 77]
        assert b"value" not in client.get(name)
        assert b"shared" not in name
    await asyncio.gather(one.close(), other.close())


async def test_what_others_wrote_under_our_names_is_not_ours(valkey: ValkeyServer) -> None:
    store, stranger = shared(valkey), shared(valkey, secret="another secret of more than 32 characters")
    with valkey.client() as client:
        before = set(client.scan_iter(f"{PREFIX}*"))
        await store.put("mine", b"value")
        (name,) = set(client.scan_iter(f"{PREFIX}*")) - before
        sealed = client.get(name)
        await store.put("yours", b"other value")
        (yours,) = set(client.scan_iter(f"{PREFIX}*")) - before - {name}

        odd = [b"", b"x", sealed[:-1], sealed[:20], sealed + b"x", b'{"text":"forged"}', client.get(yours)]
        odd += [bytes([sealed[0] ^ 1]) + sealed[1:], sealed[:-1] + bytes([sealed[-1] ^ 1]), bytes(2_000_000)]
        for value in odd:
            client.set(name, value)
            assert await store.get("mine") is None, value[:40]
        client.delete(name)
        client.rpush(name, "a list")
        assert await store.get("mine") is None
        client.delete(name)
        client.set(name, sealed)
        assert await store.get("mine") == b"value"
        assert await stranger.get("mine") is None
    await asyncio.gather(store.close(), stranger.close())


async def test_a_value_too_large_to_be_an_answer_is_not_kept(valkey: ValkeyServer) -> None:
    store = shared(valkey)
    await store.put("large", bytes(2_000_000))

    assert await store.get("large") is None
    await store.close()


async def test_a_frozen_server_costs_one_short_wait_and_answers_are_never_mixed_up(valkey: ValkeyServer) -> None:
    now = [0.0]
    store = RedisStore(valkey.url, SECRET, seconds=60, timeout_s=0.2, clock=lambda: now[0])
    names = [f"frozen-{number}" for number in range(10)]
    for name in names:
        await store.put(name, name.encode())
    valkey.freeze()
    try:
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await asyncio.gather(*(store.get(name) for name in names), return_exceptions=True)
        assert all(isinstance(item, StoreUnavailable) for item in found)
        assert loop.time() - began < 2.0
        began = loop.time()
        for name in names:
            with pytest.raises(StoreUnavailable):
                await store.get(name)
        assert loop.time() - began < 0.1, "a server that failed just now is not asked again"
    finally:
        valkey.thaw()
    now[0] = 60.0

    # What the frozen server was asked before, it answers now, to connections that nobody reads any more.
    assert await asyncio.gather(*(store.get(name) for name in reversed(names))) == [
        name.encode() for name in reversed(names)
    ]
    await store.close()


async def test_a_server_that_is_killed_and_comes_back_empty_is_used_again(valkey: ValkeyServer) -> None:
    now = [0.0]
    store = RedisStore(valkey.url, SECRET, seconds=60, timeout_s=2.0, clock=lambda: now[0])
    await store.put("before", b"1")
    valkey.kill()
    with pytest.raises(StoreUnavailable):
        await store.get("before")
    valkey.start()
    now[0] = 60.0

    assert await store.get("before") is None
    await store.put("after", b"2")
    assert await store.get("after") == b"2"
    await store.close()


async def test_a_full_server_keeps_nothing_and_says_so(valkey: ValkeyServer) -> None:
    store = shared(valkey)
    with valkey.client() as client:
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(StoreUnavailable, match="OutOfMemory"):
                await store.put("full", b"1")
        finally:
            client.config_set("maxmemory", "0")
    assert await store.get("full") is None, "that it had no room is no reason not to ask it"
    await store.close()


async def test_a_wrong_password_is_the_store_being_away(valkey: ValkeyServer) -> None:
    store = RedisStore(valkey.url.replace("secret-of-the-test", "wrong"), SECRET, seconds=60, timeout_s=2.0)

    with pytest.raises(StoreUnavailable) as told:
        await store.get("a")

    assert "wrong" not in str(told.value)
    await store.close()


async def test_the_settings_choose_the_store(valkey: ValkeyServer, tmp_path: Path) -> None:
    assert isinstance(answer_store(AnswerCache()), MemoryStore)
    environment = {"THALWEG_HOME": str(tmp_path), "THALWEG_ANSWER_CACHE__URL": valkey.url.replace("redis", "valkey")}
    with pytest.raises(SettingsError, match=r"answer_cache\.secret"):
        load_settings(environment, folder=tmp_path)
    settings = load_settings({**environment, "THALWEG_ANSWER_CACHE__SECRET": SECRET}, folder=tmp_path)
    store = answer_store(settings.answer_cache)
    assert isinstance(store, RedisStore)

    await store.put("by settings", b"1")

    with valkey.client() as client:
        assert eventually(lambda: client.dbsize() > 0)
    assert await store.get("by settings") == b"1"
    await store.close()
    odd = settings.answer_cache.model_copy(update={"url": type(settings.answer_cache.url)("http://h")})
    with pytest.raises(SettingsError, match=r"answer_cache\.url"):
        answer_store(odd)
