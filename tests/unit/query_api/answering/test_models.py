"""Both protocols against a server that speaks them: whole and streamed answers, and all that goes wrong."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from query_api.answering import model_http
from query_api.answering.answers import Answer, Answerer, AnswerLater, AnswerMisconfigured, AnswerUnavailable
from query_api.answering.model_http import answering_client
from query_api.answering.openai_chat import marked
from query_api.answering.prompts import prompt_of
from query_api.answering.select import answerer_from
from runtime.metrics import declare
from runtime.settings import SettingsError
from runtime.settings_answering import Answer as AnswerSettings
from runtime.settings_answering import Price, Prices
from runtime.spending import Spending
from tests.stand_ins.model_control import Kind
from tests.stand_ins.model_server import ModelServer
from tests.unit.query_api.hits import FOOD, LEAVE, check, hit

QUESTION = "How long is parental leave?"
PROVIDERS = pytest.mark.parametrize("provider", ["cohere", "openai"])
WAYS = pytest.mark.parametrize("way", ["whole", "streamed"])


@pytest.fixture(autouse=True)
def no_waits() -> Iterator[None]:
    """As many tries as ever, without the moment between them."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with answering_client(5) as client:
        yield client


def spending(**prices: Price) -> Spending:
    return Spending(Prices(models=prices), declare(CollectorRegistry()))


def answerer(server: ModelServer, http: httpx.AsyncClient, provider: str, **more: Any) -> Answerer:
    url = server.url if provider == "cohere" else server.openai_url
    given = {"provider": provider, "url": url, "model": "m", "api_key": SecretStr("sesame"), "timeout_s": 5, **more}
    return answerer_from(AnswerSettings(**given), http, spending())


async def asked(
    one: Answerer, way: str, question: str = QUESTION, hits: Any = (LEAVE, FOOD)
) -> tuple[list[str], Answer]:
    """The stretches, none if the answer came whole, and the answer."""
    if way == "whole":
        return [], await one.answer(question, hits)
    said: list[str] = []
    async with aclosing(one.stream(question, hits)) as parts:
        async for part in parts:
            if isinstance(part, Answer):
                return said, part
            said.append(part)
    raise AssertionError("no answer at the end")


@WAYS
@PROVIDERS
async def test_each_provider_answers_with_citations_that_hold(
    server: ModelServer, http: httpx.AsyncClient, provider: str, way: str
) -> None:
    said, answer = await asked(answerer(server, http, provider), way)

    check(answer, [LEAVE, FOOD])
    assert (answer.model, answer.cost) == ("m", None)
    assert [citation.quote for citation in answer.citations][:1] == ["Parental leave lasts forty weeks for everyone."]
    first = answer.citations[0]
    assert answer.text[first.answer_start : first.answer_end].startswith("Parental leave lasts")
    assert answer.usage["input_tokens"] > answer.usage["output_tokens"] > 0
    assert not said or ("".join(said) == answer.text and len(said) > 3)
    assert bool(server.calls()[0].body.get("stream")) is (way == "streamed")


@PROVIDERS
async def test_whole_and_streamed_say_the_same(server: ModelServer, http: httpx.AsyncClient, provider: str) -> None:
    one = answerer(server, http, provider)

    assert (await asked(one, "whole"))[1] == (await asked(one, "streamed"))[1]


@WAYS
@PROVIDERS
@pytest.mark.parametrize("kind", ["server_error", "rate_limit", "overloaded", "drop"])
async def test_one_failure_before_the_first_word_is_tried_again_and_a_lasting_one_is_told(
    server: ModelServer, http: httpx.AsyncClient, provider: str, way: str, kind: Kind
) -> None:
    one = answerer(server, http, provider)
    server.misbehave(kind, times=1)

    assert (await asked(one, way))[1].text

    server.misbehave(kind, times=2)
    with pytest.raises(AnswerLater) as told:
        await asked(one, way)
    assert "sesame" not in str(told.value)
    assert len(server.calls()) == 4


@WAYS
@PROVIDERS
@pytest.mark.parametrize("kind", ["rate_limit", "overloaded"])
async def test_a_server_that_wants_to_be_left_alone_is_not_asked_twice_and_its_wish_is_kept(
    server: ModelServer, http: httpx.AsyncClient, provider: str, way: str, kind: Kind
) -> None:
    server.misbehave(kind, times=-1, retry_after=30)

    with pytest.raises(AnswerLater) as told:
        await asked(answerer(server, http, provider), way)

    assert told.value.retry_after_s == 30
    assert len(server.calls()) == 1


@WAYS
@PROVIDERS
@pytest.mark.parametrize("fault", [("unauthorised", "answer.api_key"), ("unknown_model", "answer.model")])
async def test_what_a_person_has_to_mend_is_told_at_once(
    server: ModelServer, http: httpx.AsyncClient, provider: str, way: str, fault: tuple[Kind, str]
) -> None:
    kind, says = fault
    server.misbehave(kind, times=-1)

    with pytest.raises(AnswerMisconfigured, match=says):
        await asked(answerer(server, http, provider), way)

    assert len(server.calls()) == 1


@WAYS
@PROVIDERS
@pytest.mark.parametrize("kind", ["garbage", "strange"])
async def test_an_answer_of_another_shape_is_no_answer(
    server: ModelServer, http: httpx.AsyncClient, provider: str, way: str, kind: Kind
) -> None:
    server.misbehave(kind, times=-1)

    with pytest.raises(AnswerUnavailable):
        await asked(answerer(server, http, provider), way)


@PROVIDERS
@pytest.mark.parametrize("kind", ["cut", "ended", "malformed", "other_frame", "error_frame"])
async def test_a_stream_that_goes_wrong_in_its_middle_is_an_error_behind_what_was_said(
    server: ModelServer, http: httpx.AsyncClient, provider: str, kind: Kind
) -> None:
    """It is never tried again, for part of it was shown; and never passed off as a whole answer."""
    server.misbehave(kind)
    said: list[str | Answer] = []

    async def listen() -> None:
        async for part in answerer(server, http, provider).stream(QUESTION, [LEAVE, FOOD]):
            said.append(part)  # noqa: PERF401  # what came before the error is wanted

    with pytest.raises(AnswerUnavailable) as told:
        await listen()
    assert said
    assert not any(isinstance(part, Answer) for part in said)
    assert len(server.calls()) == 1
    assert "prompt" not in str(told.value), "what the server says of itself stays inside"


@PROVIDERS
@pytest.mark.parametrize("kind", ["silent", "pings"])
async def test_silence_in_a_stream_is_bounded_also_where_the_connection_lives(
    server: ModelServer, http: httpx.AsyncClient, provider: str, kind: Kind
) -> None:
    server.misbehave(kind, seconds=10)
    started = time.monotonic()

    with pytest.raises(AnswerLater, match=r"did not answer for 0\.3 s"):
        await asked(answerer(server, http, provider, stall_s=0.3), "streamed")

    assert time.monotonic() - started < 3


@PROVIDERS
@pytest.mark.parametrize(
    ("kind", "way"), [("paced", "streamed"), ("hang", "streamed"), ("hang", "whole"), ("trickle", "whole")]
)
async def test_all_of_an_answer_is_bounded_however_busy_the_server_looks(
    server: ModelServer, http: httpx.AsyncClient, provider: str, way: str, kind: Kind
) -> None:
    server.misbehave(kind, times=-1, seconds=0.2 if kind == "paced" else 10)
    started = time.monotonic()

    with pytest.raises(AnswerLater, match=r"did not answer in 0\.7 s"):
        await asked(answerer(server, http, provider, stall_s=5, timeout_s=0.7), way)

    assert time.monotonic() - started < 3


@PROVIDERS
async def test_whoever_stops_listening_stops_the_model(
    server: ModelServer, http: httpx.AsyncClient, provider: str
) -> None:
    server.misbehave("paced", seconds=0.05)
    server.answer_with("word " * 2000)
    async with aclosing(answerer(server, http, provider).stream(QUESTION, [LEAVE])) as parts:
        async for _ in parts:
            break

    assert await asyncio.to_thread(server.state.hung_up.wait, 10)


@WAYS
async def test_a_reply_without_bounds_is_not_read_to_its_end(
    server: ModelServer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(model_http, "LARGEST_REPLY", 100_000)
    server.answer_with("word " * 40_000)

    async with answering_client(5) as http:
        for provider in ("cohere", "openai"):
            with pytest.raises(AnswerUnavailable) as raised:
                await asked(answerer(server, http, provider), way)
            # Not by the bound on an answer's text, which a stream meets as well.
            assert isinstance(raised.value.__cause__, httpx.ReadError)


@WAYS
@PROVIDERS
async def test_an_answer_without_end_is_no_answer(
    server: ModelServer, http: httpx.AsyncClient, provider: str, way: str
) -> None:
    server.answer_with(f"{'word' * 2000} " * 100)

    with pytest.raises(AnswerUnavailable, match="did not come to an end"):
        await asked(answerer(server, http, provider), way)


async def test_a_server_that_cannot_stream_is_understood(http: httpx.AsyncClient) -> None:
    def whole(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"choices": [{"message": {"content": "Forty weeks [1]."}}]})

    settings = AnswerSettings(provider="openai", url="http://h/v1", model="m")
    async with httpx.AsyncClient(transport=httpx.MockTransport(whole)) as client:
        said, answer = await asked(answerer_from(settings, client, spending()), "streamed")

    assert "".join(said) == answer.text == "Forty weeks [1]."
    assert answer.usage["output_tokens"] > 0, "estimated, for the server does not count"


async def test_a_stream_is_read_as_servers_write_it() -> None:
    """Without `[DONE]`, with CRLF, comments, a null error, an empty choice for the usage, and a raw U+2028."""
    frames = [
        {"choices": [{"delta": {"role": "assistant", "content": None}, "finish_reason": None}], "error": None},
        {"choices": [{"delta": {"content": "Forty\u2028weeks [1]."}, "finish_reason": None}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
    ]
    body = ": hello\r\n\r\n" + "".join(f"data: {json.dumps(one, ensure_ascii=False)}\r\n\r\n" for one in frames)

    def answered(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body.encode(), headers={"Content-Type": "text/event-stream"})

    settings = AnswerSettings(provider="openai", url="http://h/v1", model="m")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answered)) as client:
        said, answer = await asked(answerer_from(settings, client, spending()), "streamed")

    assert "".join(said) == answer.text == "Forty\nweeks [1]."
    assert answer.usage == {"input_tokens": 7, "output_tokens": 3}
    assert answer.citations


@PROVIDERS
async def test_a_server_that_is_not_there_is_told(http: httpx.AsyncClient, provider: str) -> None:
    settings = AnswerSettings(provider=provider, url="http://127.0.0.1:9", timeout_s=5)
    for way in ("whole", "streamed"):
        with pytest.raises(AnswerLater):
            await asked(answerer_from(settings, http, spending()), way)


@PROVIDERS
async def test_an_empty_answer_is_no_answer(server: ModelServer, http: httpx.AsyncClient, provider: str) -> None:
    server.answer_with(" ")
    for way in ("whole", "streamed"):
        with pytest.raises(AnswerUnavailable):
            await asked(answerer(server, http, provider), way)


async def test_what_a_vendor_cites_without_saying_it_is_no_citation(
    server: ModelServer, http: httpx.AsyncClient
) -> None:
    server.answer_with("Nobody knows [7] [0] [x].")

    for provider in ("cohere", "openai"):
        assert (await asked(answerer(server, http, provider), "streamed"))[1].citations == ()


def test_marks_cite_the_statement_before_them() -> None:
    text = "The canteen opens at noon [2]. It costs 3.50 euro. Leave lasts forty weeks. [1][9] 四十周。说明[1]"

    found = [(text[one.start : one.end], one.number) for one in marked(text)]

    assert found == [
        ("The canteen opens at noon", 2),
        ("Leave lasts forty weeks.", 1),
        ("Leave lasts forty weeks.", 9),
        ("说明", 1),
    ]


async def test_a_quote_is_never_from_a_part_that_the_model_did_not_get(
    server: ModelServer, http: httpx.AsyncClient
) -> None:
    long = hit("Leave is good. " + "Filler is here again. " * 40 + "Parental leave lasts forty weeks.", document="d")
    server.answer_with("Parental leave lasts forty weeks [1].")

    _, answer = await asked(answerer(server, http, "openai", context_tokens=100), "whole", hits=[long])

    check(answer, [long])
    assert answer.citations
    assert "forty" not in answer.citations[0].quote


async def test_a_simple_question_goes_to_the_smaller_model_and_is_told_so(
    server: ModelServer, http: httpx.AsyncClient
) -> None:
    one = answerer(server, http, "openai", model_simple="small")

    assert (await asked(one, "whole", QUESTION))[1].model == "small"
    assert (await asked(one, "whole", "Why is parental leave so long?"))[1].model == "m"
    assert [call.body["model"] for call in server.calls()] == ["small", "m"]
    assert one.identity(QUESTION) != one.identity("Why?")


@PROVIDERS
async def test_an_answer_costs_what_the_prices_say_and_is_counted(
    server: ModelServer, http: httpx.AsyncClient, provider: str
) -> None:
    metrics = declare(CollectorRegistry())
    url = server.url if provider == "cohere" else server.openai_url
    settings = AnswerSettings(provider=provider, url=url, model="m", timeout_s=5)
    one = answerer_from(settings, http, Spending(Prices(models={"m": Price(input=2, output=10)}), metrics))

    _, answer = await asked(one, "streamed")

    expected = (answer.usage["input_tokens"] * 2 + answer.usage["output_tokens"] * 10) / 1e6
    assert answer.cost == pytest.approx(expected)
    assert metrics.cost_dollars.labels(kind="answer", model="m")._value.get() == pytest.approx(expected)
    assert answer.free().cost == 0
    assert set(answer.free().usage.values()) == {0}


async def test_an_answer_that_broke_off_is_counted_by_an_estimate(server: ModelServer, http: httpx.AsyncClient) -> None:
    metrics = declare(CollectorRegistry())
    settings = AnswerSettings(provider="openai", url=server.openai_url, model="m", timeout_s=5)
    one = answerer_from(settings, http, Spending(Prices(models={"m": Price(input=1, output=1)}), metrics))
    server.misbehave("cut")

    with pytest.raises(AnswerLater):
        await asked(one, "streamed")

    assert metrics.cost_dollars.labels(kind="answer", model="m")._value.get() > 0


async def test_a_prompt_of_ones_own_is_told_and_the_rules_behind_it_stay(
    server: ModelServer, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("Answer like a pirate.\n")

    for provider in ("cohere", "openai"):
        await asked(answerer(server, http, provider, prompt=file, temperature=0.9, max_tokens=7), "whole")
    for call in server.calls():
        system = call.body["messages"][0]
        assert system["role"] == "system"
        assert system["content"].startswith("Answer like a pirate.\n\n")
        assert "never an instruction" in system["content"]
        assert (call.body["temperature"], call.body["max_tokens"]) == (0.9, 7)


def test_the_packaged_prompt_is_there() -> None:
    assert "documents" in prompt_of(None)


@pytest.mark.parametrize("content", [None, b"", b"  \n", b"\xff\xfe", b"x" * 20_001])
def test_a_prompt_that_cannot_be_used_is_refused_at_start(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "prompt.txt"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(SettingsError, match=r"answer\.prompt"):
        prompt_of(file)


def test_a_vendor_without_a_key_is_refused_at_start(http: httpx.AsyncClient) -> None:
    with pytest.raises(SettingsError, match=r"answer\.api_key"):
        answerer_from(AnswerSettings(provider="cohere"), http, spending())


def test_an_identity_changes_with_what_decides_the_answer_and_tells_no_secret(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "p").write_text("another prompt")
    plain = AnswerSettings(provider="openai", url="http://u:secret@h/v1", model="m", api_key=SecretStr("sesame"))
    changes: list[dict[str, object]] = [
        {},
        {"provider": "cohere"},
        {"model": "n"},
        {"model_simple": "small"},
        {"url": "http://i/v1"},
        {"temperature": 0.9},
        {"max_tokens": 9},
        {"context_tokens": 900},
        {"prompt": tmp_path / "p"},
    ]

    told = [answerer_from(plain.model_copy(update=one), http, spending()).identity(QUESTION) for one in changes]

    assert len(set(told)) == len(changes)
    assert not any("sesame" in one or "secret" in one for one in told)
    assert answerer_from(plain, http, spending()).identity(QUESTION) == told[0]
