"""Answers that are given again: what counts as the same question, who writes once for many, and what failures cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import fields, replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from query_api.answer_cache.cache import AnswerCache
from query_api.answer_cache.key import SHOWN_TO_NOBODY, answer_key
from query_api.answer_cache.store import AnswerStore, StoreUnavailable
from query_api.answering.answers import Answer, AnswerUnavailable, Citation
from query_api.retrieval.rights import Rights
from query_api.retrieval.visibility import Hit, Neighbour
from runtime.metrics import Metrics, declare
from schemas.index.manifest import Span
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex, candidate, manifest
from tests.unit.query_api.fakes import app_around, kept_in_memory

HIT = Hit(
    "leave", "handbook", "c1", "Forty weeks.", "Leave", 0.9, 10, 22, ("Top",), 3, {"year": 2026}, "shop", "v1", {}
)
FOOD = replace(HIT, document_id="food", chunk_id="c2", text="Soup.", start=0, end=5)
RIGHTS = Rights("acme", {"handbook": True}, frozenset({"ann", "group:hr"}))
ADMIN = Rights("acme", {"handbook": True}, None)


class Writer:
    """An answerer that counts, and writes when it is let."""

    def __init__(self, *, identity: str = "model m", fails: Exception | None = None) -> None:
        self.asked = 0
        self.closed = 0
        self.fails = fails
        self.may = asyncio.Event()
        self.may.set()
        self._identity = identity

    def identity(self, question: str) -> str:
        return self._identity

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        self.asked += 1
        await self.may.wait()
        if self.fails is not None:
            raise self.fails
        citation = Citation(0, hits[0].text, hits[0].start, hits[0].end, 0, 1)
        return Answer(f"{question}: {hits[0].text}", (citation,), "m", {"input_tokens": 7, "output_tokens": 3}, 0.01)

    async def stream(self, question: str, hits: Sequence[Hit]) -> AsyncGenerator[str | Answer, None]:
        self.asked += 1
        try:
            for word in ("one ", "two ", "three"):
                yield word
                await self.may.wait()
                if self.fails is not None:
                    raise self.fails
            yield Answer("one two three", (), "m", {"input_tokens": 7}, 0.01)
        finally:
            self.closed += 1


class Odd:
    """A store that fails, or holds something odd."""

    def __init__(self, *, holds: bytes | None = None, fails_get: bool = False, fails_put: bool = False) -> None:
        self.holds, self.fails_get, self.fails_put = holds, fails_get, fails_put

    async def get(self, name: str) -> bytes | None:
        if self.fails_get:
            raise StoreUnavailable("away")
        return self.holds

    async def put(self, name: str, value: bytes) -> None:
        if self.fails_put:
            raise StoreUnavailable("away")

    async def close(self) -> None:
        return None


class Cache:
    """A cache with its counts."""

    def __init__(self, store: AnswerStore | None = None) -> None:
        self.metrics: Metrics = declare(CollectorRegistry())
        self.cache = AnswerCache(store or kept_in_memory(), self.metrics.cache_requests)

    async def ask(
        self, writer: Writer, question: str = "how long?", hits: Sequence[Hit] = (HIT,), rights: Rights = RIGHTS
    ) -> Answer:
        return await self.cache.around(writer, rights).answer(question, hits)

    async def read(self, writer: Writer, *, parts: int | None = None) -> list[str | Answer]:
        """A stream's first parts, or all."""
        found: list[str | Answer] = []
        async with aclosing(self.cache.around(writer, RIGHTS).stream("how long?", (HIT,))) as stream:
            async for part in stream:
                found.append(part)
                if len(found) == parts:
                    break
        return found

    def counted(self) -> dict[str, float]:
        return {
            sample.labels["outcome"]: sample.value
            for family in self.metrics.cache_requests.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        }


async def until(check: Any) -> None:
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110  # each round lets all other tasks go on by a step
            await asyncio.sleep(0)


async def test_an_answer_is_given_again_whole_and_at_no_cost() -> None:
    cache, writer = Cache(), Writer()

    first, again = await cache.ask(writer), await cache.ask(writer)

    assert (first.cached, first.usage, first.cost) == (False, {"input_tokens": 7, "output_tokens": 3}, 0.01)
    assert (again.cached, again.usage, again.cost) == (True, {"input_tokens": 0, "output_tokens": 0}, 0.0)
    assert replace(again, cached=False, usage=first.usage, cost=first.cost) == first
    assert writer.asked == 1
    assert cache.counted() == {"miss": 1.0, "hit": 1.0}


@pytest.mark.parametrize("question", ["how long?  ", "  how\tlong?", "how \n long?"])
async def test_white_space_makes_no_other_question(question: str) -> None:
    cache, writer = Cache(), Writer()
    await cache.ask(writer)

    assert (await cache.ask(writer, question)).cached


@pytest.mark.parametrize(
    ("question", "hits", "rights", "identity"),
    [
        ("How long?", (HIT,), RIGHTS, "model m"),
        ("howlong?", (HIT,), RIGHTS, "model m"),
        ("how long?", (HIT, FOOD), RIGHTS, "model m"),
        ("how long?", (FOOD,), RIGHTS, "model m"),
        ("how long?", (HIT,), ADMIN, "model m"),
        ("how long?", (HIT,), replace(RIGHTS, tenant="globex"), "model m"),
        ("how long?", (HIT,), replace(RIGHTS, readers=frozenset({"ann"})), "model m"),
        ("how long?", (HIT,), replace(RIGHTS, readers=frozenset()), "model m"),
        ("how long?", (HIT,), replace(RIGHTS, bases={"handbook": False}), "model m"),
        ("how long?", (HIT,), replace(RIGHTS, bases={"handbook": True, "wiki": True}), "model m"),
        ("how long?", (HIT,), RIGHTS, "model n"),
    ],
)
async def test_whatever_decides_an_answer_makes_it_another_one(
    question: str, hits: Sequence[Hit], rights: Rights, identity: str
) -> None:
    cache = Cache()
    await cache.ask(Writer())
    other = Writer(identity=identity)

    assert not (await cache.ask(other, question, hits, rights)).cached
    assert other.asked == 1


OTHER: dict[str, object] = {
    "document_id": "x", "knowledge_base": "x", "chunk_id": "x", "text": "x", "title": None, "start": 11, "end": 23,
    "heading": ("Top", "x"), "page": None, "metadata": {"year": "2026"}, "source": "x", "version": "v2",
    "score": 0.1, "parts": {"vector": 1.0}, "place": 1, "spans": (Span("x", "hash", 0, 1),),
    "before": (Neighbour("x", "x", 0, 1, (), None),), "after": (Neighbour("x", "x", 0, 1, (), None),),
}  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in fields(Hit)])
def test_every_field_of_a_hit_is_part_of_the_name_unless_nobody_is_shown_it(name: str) -> None:
    # A field that is new and not named here fails: decide whether a model or a citation can depend on it.
    other = replace(HIT, **{name: OTHER[name]})

    same = answer_key(RIGHTS, "q", [HIT], "m") == answer_key(RIGHTS, "q", [other], "m")

    assert same is (name in SHOWN_TO_NOBODY)


def test_the_order_of_hits_is_part_of_the_name_for_citations_count_them() -> None:
    assert answer_key(RIGHTS, "q", [HIT, FOOD], "m") != answer_key(RIGHTS, "q", [FOOD, HIT], "m")


def test_a_name_is_the_same_in_every_replica() -> None:
    one = Rights("acme", {"a": True, "b": False}, frozenset({"x", "y", "z"}))
    other = Rights("acme", {"b": False, "a": True}, frozenset({"z", "y", "x"}))
    hit = replace(HIT, metadata={"b": 1, "a": ["\ud800"]})

    assert answer_key(one, "q", [hit], "m") == answer_key(
        other, "q", [replace(hit, metadata={"a": ["\ud800"], "b": 1})], "m"
    )
    assert answer_key(RIGHTS, "q", [], "m") == "b08367c7e0aefeb4fe8c76b5e564c0a1665b737d654aa4444af6adf2192e685e"


async def test_who_asks_the_same_at_the_same_time_waits_for_one_answer() -> None:
    cache, writer = Cache(), Writer()
    writer.may.clear()
    asking = [asyncio.create_task(cache.ask(writer)) for _ in range(20)]
    await until(lambda: writer.asked)
    writer.may.set()

    answers = await asyncio.gather(*asking)

    assert writer.asked == 1
    assert [answer.cached for answer in answers].count(False) == 1
    assert sum(answer.usage["input_tokens"] for answer in answers) == 7
    assert cache.counted() == {"miss": 1.0, "hit": 19.0}


async def test_who_asked_first_may_leave_and_the_others_get_their_answer() -> None:
    cache, writer = Cache(), Writer()
    writer.may.clear()
    first = asyncio.create_task(cache.ask(writer))
    await until(lambda: writer.asked)
    second = asyncio.create_task(cache.ask(writer))
    await until(lambda: cache.counted().get("hit"))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    writer.may.set()

    assert (await second).text == "how long?: Forty weeks."
    assert writer.asked == 1


async def test_when_all_have_left_the_model_is_stopped_and_the_next_one_asks_anew() -> None:
    cache, writer = Cache(), Writer()
    writer.may.clear()

    assert await cache.read(writer, parts=1) == ["one "]
    writer.may.set()
    answer = await cache.ask(writer)

    await until(lambda: writer.closed == 1)
    assert not answer.cached
    assert writer.asked == 2
    assert not cache.cache._written


async def test_whoever_leaves_before_the_writing_began_leaves_nothing_behind() -> None:
    cache, writer = Cache(), Writer()
    asking = asyncio.create_task(cache.ask(writer))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    await until(lambda: not cache.cache._written)
    assert (await cache.ask(writer)).text


async def test_a_failure_is_told_to_all_who_waited_and_never_kept() -> None:
    cache, writer = Cache(), Writer(fails=AnswerUnavailable("busy"))
    writer.may.clear()
    asking = [asyncio.create_task(cache.ask(writer)) for _ in range(3)]
    await until(lambda: writer.asked)
    writer.may.set()

    failures = await asyncio.gather(*asking, return_exceptions=True)
    writer.fails = None

    assert [str(failure) for failure in failures] == ["busy"] * 3
    assert not (await cache.ask(writer)).cached


async def test_a_stream_is_replayed_from_what_was_kept() -> None:
    cache, writer = Cache(), Writer()

    live, again = await cache.read(writer), await cache.read(writer)
    whole = await cache.ask(writer)

    assert live == ["one ", "two ", "three", Answer("one two three", (), "m", {"input_tokens": 7}, 0.01)]
    assert again == ["one two three", Answer("one two three", (), "m", {"input_tokens": 0}, 0.0, cached=True)]
    assert (whole.text, whole.cached, writer.asked) == ("one two three", True, 1)


async def test_who_joins_a_stream_late_hears_it_from_its_beginning() -> None:
    cache, writer = Cache(), Writer()
    writer.may.clear()
    early = asyncio.create_task(cache.read(writer))
    await until(lambda: writer.asked)
    late = asyncio.create_task(cache.read(writer))
    whole = asyncio.create_task(cache.ask(writer))
    await until(lambda: cache.counted().get("hit") == 2)
    writer.may.set()

    assert (await late)[:-1] == (await early)[:-1] == ["one ", "two ", "three"]
    assert (await whole).text == "one two three"
    assert writer.asked == 1


async def test_a_stream_that_breaks_off_is_not_kept() -> None:
    cache, writer = Cache(), Writer(fails=AnswerUnavailable("broke off"))
    with pytest.raises(AnswerUnavailable, match="broke off"):
        await cache.read(writer)
    writer.fails = None

    assert len(await cache.read(writer)) == 4
    assert (writer.asked, writer.closed) == (2, 2)


@pytest.mark.parametrize("held", [b"", b"null", b"{}", b'{"text": "x"}', b'{"text": 1, "citations": [], "model": "m"}'])
async def test_what_is_no_answer_is_a_miss(held: bytes) -> None:
    cache, writer = Cache(Odd(holds=held)), Writer()

    assert (await cache.ask(writer)).text == "how long?: Forty weeks."
    assert cache.counted() == {"miss": 1.0}


@pytest.mark.parametrize(
    ("store", "counted"), [(Odd(fails_get=True, fails_put=True), "error"), (Odd(fails_put=True), "miss")]
)
async def test_a_store_that_is_away_costs_the_model_and_nothing_else(store: Odd, counted: str) -> None:
    cache, writer = Cache(store), Writer()

    assert [(await cache.ask(writer)).cached for _ in range(2)] == [False, False]
    assert cache.counted() == {counted: 2.0}


async def test_an_answer_whose_text_cannot_be_written_down_is_given_but_not_kept() -> None:
    cache, writer = Cache(), Writer()

    answers = [await cache.ask(writer, "\ud800") for _ in range(2)]

    assert [answer.cached for answer in answers] == [False, False]


async def test_closing_ends_what_is_being_written() -> None:
    cache, writer = Cache(), Writer()
    writer.may.clear()
    asking = asyncio.create_task(cache.ask(writer))
    await until(lambda: writer.asked)

    await cache.cache.close()

    with pytest.raises(AnswerUnavailable, match="given up"):
        await asking


HEADERS = {
    "X-Request-ID": "other", "X-Forwarded-Host": "evil.example", "X-Forwarded-For": "10.0.0.1", "X-Tenant": "globex",
    "Accept-Language": "de", "User-Agent": "other", "Cookie": "a=b", "Origin": "https://evil.example", "X-User": "eve",
    "X-Original-URL": "/v1/search", "Cache-Control": "no-cache", "Forwarded": "host=evil.example",
}  # fmt: skip


async def test_headers_that_decide_nothing_neither_alter_nor_split_an_entry() -> None:
    document = "acme/handbook/leave"
    held = [candidate(document, text="Parental leave lasts forty weeks.")]
    parts = app_around(FakeIndex(held, [manifest(document, "c")]), FakeEmbedder())

    odd = (await parts.client.post("/v1/query", json={"query": "how long is leave?"}, headers=HEADERS)).json()
    plain = (await parts.client.post("/v1/query", json={"query": "how long is leave?"})).json()

    assert (odd["cached"], plain["cached"]) == (False, True)
    differing = dict.fromkeys(("answer_id", "cached", "took_ms"))
    assert {**odd, **differing} == {**plain, **differing}
    assert "evil" not in str(plain)


async def test_two_keys_with_other_rights_never_share_an_answer() -> None:
    document = "acme/handbook/leave"
    parts = app_around(FakeIndex([candidate(document)], [manifest(document, "c")]), FakeEmbedder())

    async def cached(key: str) -> bool:
        headers = {"Authorization": f"Bearer {key}"}
        return bool((await parts.client.post("/v1/query", json={"query": "text?"}, headers=headers)).json()["cached"])

    assert [await cached(key) for key in ("tw_admin", "tw_reader", "tw_admin", "tw_reader")] == [
        False,
        False,
        True,
        True,
    ]
    told = (await parts.client.get("/metrics")).text
    assert 'thalweg_cache_requests_total{outcome="hit"} 2.0' in told
    assert 'thalweg_cache_requests_total{outcome="miss"} 2.0' in told
    assert "thalweg_generation_duration_seconds_count 2.0" in told
