"""The stand-in model server, asked by the vendors' own clients: it must be a fair double."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import cohere
import httpx
import openai
import pytest

from tests.stand_ins.model_answers import NO_ANSWER, vector_of
from tests.stand_ins.model_server import ModelServer

PASSAGES = ["The pump runs at 40 bar. It is blue.", "Cats sleep a lot.", "Replace the pump filter every year."]

QUESTION = cohere.UserChatMessageV2(content="At how many bar does the pump run?")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer(16) as running:
        yield running


@pytest.fixture
def cohere_client(server: ModelServer) -> cohere.ClientV2:
    return cohere.ClientV2(api_key="k", base_url=server.url, timeout=5, max_retries=0)


@pytest.fixture
def openai_client(server: ModelServer) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", base_url=server.openai_url, timeout=5, max_retries=0)


def test_coheres_client_reads_embeddings(server: ModelServer, cohere_client: cohere.ClientV2) -> None:
    answer = cohere_client.embed(
        model="m", input_type="search_document", texts=["one", "two"], embedding_types=["float"]
    )
    assert answer.embeddings.float_ == [vector_of("one", 16), vector_of("two", 16)]
    assert answer.texts == ["one", "two"]
    assert server.stats()["texts_by_role"] == {"search_document": 2}


def test_coheres_client_reads_ranks(cohere_client: cohere.ClientV2) -> None:
    answer = cohere_client.rerank(model="m", query="pump filter", documents=PASSAGES, top_n=2)
    assert [(one.index, one.relevance_score) for one in answer.results] == [(2, 1.0), (0, 0.5)]


def test_coheres_client_reads_an_answer_with_citations(cohere_client: cohere.ClientV2) -> None:
    answer = cohere_client.chat(
        model="m",
        messages=[QUESTION],
        documents=[cohere.Document(id=f"d{i}", data={"text": text}) for i, text in enumerate(PASSAGES)],
    )
    assert answer.message.content is not None
    text = answer.message.content[0].text  # type: ignore[union-attr]
    assert "40 bar" in text
    assert answer.message.citations
    for citation in answer.message.citations:
        assert text[citation.start : citation.end] == citation.text
        assert citation.sources
        assert citation.sources[0].id in ("d0", "d2")


def test_coheres_client_reads_a_stream(cohere_client: cohere.ClientV2) -> None:
    text, citations, ended = "", 0, False
    for event in cohere_client.chat_stream(
        model="m",
        messages=[QUESTION],
        documents=[cohere.Document(id="d0", data={"text": PASSAGES[0]})],
    ):
        if event.type == "content-delta":
            text += event.delta.message.content.text  # type: ignore[union-attr, operator]
        citations += event.type == "citation-start"
        ended = event.type == "message-end"
    assert text == "The pump runs at 40 bar."
    assert citations == 1
    assert ended


def test_openais_client_reads_embeddings(openai_client: openai.OpenAI) -> None:
    # Its own default is base64.
    answer = openai_client.embeddings.create(model="m", input=["one", "two"])
    assert answer.data[1].embedding == pytest.approx(vector_of("two", 16), abs=1e-6)
    assert len(openai_client.embeddings.create(model="m", input="one", dimensions=5).data[0].embedding) == 5


def test_openais_client_reads_an_answer_and_a_stream(openai_client: openai.OpenAI) -> None:
    prompt = "".join(f"[{i}] {text}\n" for i, text in enumerate(PASSAGES, 1))
    messages: Any = [{"role": "system", "content": prompt}, {"role": "user", "content": "pump filter?"}]
    answer = openai_client.chat.completions.create(model="m", messages=messages)
    said = answer.choices[0].message.content
    assert said is not None
    assert "Replace the pump filter every year. [3]" in said
    stream: Any = openai_client.chat.completions.create(model="m", messages=messages, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == said


def test_question_that_no_document_answers_gets_none(openai_client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "[1] Cats sleep.\nWhere is Peru?"}]
    answer = openai_client.chat.completions.create(model="m", messages=messages)
    assert answer.choices[0].message.content == NO_ANSWER


def test_stream_can_be_cut_in_its_middle(server: ModelServer) -> None:
    server.misbehave("cut")
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{server.openai_url}/chat/completions", json=body, timeout=5)


def test_request_without_input_type_is_refused(server: ModelServer) -> None:
    answer = httpx.post(f"{server.url}/v2/embed", json={"model": "m", "texts": ["a"], "embedding_types": ["float"]})
    assert answer.status_code == 422


def test_fault_is_for_its_path_and_number_of_requests(server: ModelServer) -> None:
    server.misbehave("rate_limit", times=2, path="embed", retry_after=3)
    body = {"model": "m", "input": "a", "query": "q", "documents": ["d"]}
    assert httpx.post(f"{server.url}/v2/rerank", json=body).status_code == 200
    answers = [httpx.post(f"{server.openai_url}/embeddings", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["Retry-After"] == "3"


def test_unknown_fault_is_refused(server: ModelServer) -> None:
    answer = httpx.post(f"{server.url}/__control", json={"do": "misbehave", "kind": "dance"})
    assert answer.status_code == 400
    assert "rate_limit" in answer.json()["message"]


def test_other_processes_can_start_ask_and_command_it() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stand_ins.model_server", "--port", "0", "--dimension", "8"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        body = {"model": "m", "input": ["a", "b"]}
        answer = httpx.post(f"{url}/v1/embeddings", json=body).json()
        assert [len(item["embedding"]) for item in answer["data"]] == [8, 8]
        assert httpx.post(f"{url}/__control", json={"do": "stats"}).json()["texts"] == 2
        httpx.post(f"{url}/__control", json={"do": "misbehave", "kind": "server_error"})
        assert httpx.post(f"{url}/v1/embeddings", json=body).status_code == 500
        httpx.post(f"{url}/__control", json={"do": "reset"})
        assert httpx.get(f"{url}/__control").json()["texts"] == 0
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
