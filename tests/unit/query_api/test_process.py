"""The query API as a process: what it loads, and the commands that talk to it."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import query_api
from query_api.commands import app

HEAVY = ("faust", "mode", "unstructured", "aiokafka", "streams", "connectors", "onnx", "torch", "spacy")


def test_the_process_loads_neither_faust_nor_unstructured_nor_another_package_of_ours() -> None:
    modules = [found.name for found in pkgutil.walk_packages(query_api.__path__, "query_api.")]
    assert len(modules) > 15
    code = f"""
import importlib, json, sys
for name in {modules!r}:
    importlib.import_module(name)
print(json.dumps(sorted({{name.split(".")[0] for name in sys.modules}})))
"""

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    loaded = set(json.loads(told.stdout))
    assert "weaviate" in loaded
    assert loaded.isdisjoint(HEAVY)


class _Api(BaseHTTPRequestHandler):
    answers: tuple[int, dict[str, Any] | str] = (200, {})
    accepted: list[str] = []  # noqa: RUF012  # as `seen`
    seen: list[tuple[str, str, dict[str, Any]]] = []  # noqa: RUF012  # shared on purpose: the test reads it

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, self.headers["Authorization"], body))
        status, answer = self.answers
        self.accepted.append(self.headers["Accept"])
        streams = isinstance(answer, str)
        told = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream" if streams else "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        """Nothing: the test's output is for findings."""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[_Api]]:
    handler: Any = type("Api", (_Api,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("THALWEG_HOME", str(tmp_path))
    monkeypatch.setenv("THALWEG_QUERY__PORT", str(server.server_address[1]))
    monkeypatch.setenv("THALWEG_API_KEY", "tw_given")
    yield handler
    server.shutdown()
    server.server_close()


HIT = {
    "document_id": "leave",
    "knowledge_base": "kb",
    "chunk_id": "c",
    "text": "Forty [weeks].",
    "title": None,
    "score": 0.5,
    "heading": ["Top"],
}
ANSWER = {
    "hits": [HIT],
    "took_ms": 4.0,
    "answer": "Forty weeks.",
    "model": "extractive",
    "citations": [{"document_id": "leave", "start": 3, "end": 15, "quote": "Forty weeks."}],
}


def test_search_asks_the_api_with_the_key_and_shows_the_hits(api: type[_Api]) -> None:
    api.answers = (200, {"hits": [HIT], "took_ms": 4.0})

    ran = CliRunner().invoke(app, ["search", "leave", "-k", "kb", "--filters", '{"year": 1}', "--limit", "3"])

    assert ran.exit_code == 0, ran.output
    assert "Forty [weeks]." in ran.output
    sent = {"query": "leave", "limit": 3, "mode": "hybrid", "knowledge_bases": ["kb"], "filters": {"year": 1}}
    assert api.seen == [("/v1/search", "Bearer tw_given", sent)]


def test_ask_shows_the_answer_its_citations_and_that_it_is_quoted(api: type[_Api]) -> None:
    api.answers = (200, ANSWER)

    ran = CliRunner().invoke(app, ["ask", "how long?"])

    assert "Forty weeks." in ran.output
    assert "quoted from the documents" in ran.output
    assert "leave 3-15" in ran.output


def test_what_a_search_went_without_is_shown(api: type[_Api]) -> None:
    api.answers = (200, {"hits": [HIT], "took_ms": 4.0, "degraded": ["rerank"]})

    ran = CliRunner().invoke(app, ["search", "leave"])

    assert "without rerank" in ran.output


def event(name: str, data: dict[str, Any]) -> str:
    return f"id: 1\nevent: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def test_ask_prints_a_streamed_answer_once_with_its_citations(api: type[_Api]) -> None:
    api.answers = (
        200,
        ": ping\n\n"
        + event("hits", {"hits": [HIT]})
        + event("delta", {"text": "Forty "})
        + event("delta", {"text": "weeks\x1b]0;owned\x07."})
        + event("done", ANSWER),
    )

    ran = CliRunner().invoke(app, ["ask", "how long?"])

    assert ran.exit_code == 0, ran.output
    assert ran.output.startswith("Forty weeks]0;owned.\n(quoted")
    assert "\x1b" not in ran.output
    assert "leave 3-15" in ran.output
    assert api.accepted[-1].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (event("error", {"title": "A part is away", "detail": "The model broke off."}), "The model broke off."),
        ("", "broke off"),
        ("event: done\ndata: {", "broke off"),
    ],
)
def test_an_answer_that_breaks_off_is_a_failure(api: type[_Api], end: str, says: str) -> None:
    api.answers = (200, event("delta", {"text": "Forty "}) + end)

    ran = CliRunner().invoke(app, ["ask", "how long?"])

    assert ran.exit_code == 1
    assert ran.output.startswith("Forty ")
    assert says in ran.output


def test_json_prints_the_answer_as_it_is(api: type[_Api]) -> None:
    api.answers = (200, ANSWER)

    ran = CliRunner().invoke(app, ["ask", "how long?", "--json"])

    assert json.loads(ran.output) == ANSWER


def test_a_problem_is_shown_with_its_fix_and_code_1(api: type[_Api]) -> None:
    wrong = {"field": "query", "message": "is empty", "fix": "write what to look for"}
    api.answers = (422, {"title": "Fields are not valid", "detail": "query", "errors": [wrong]})

    ran = CliRunner().invoke(app, ["search", " "])

    assert ran.exit_code == 1
    assert "write what to look for" in ran.output


def test_an_api_that_is_away_is_told_with_the_next_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, api: type[_Api]
) -> None:
    monkeypatch.setenv("THALWEG_QUERY__PORT", "9")

    ran = CliRunner().invoke(app, ["search", "leave"])

    assert ran.exit_code == 1
    assert "thalweg up" in ran.output


def test_without_a_key_the_command_says_where_to_get_one(monkeypatch: pytest.MonkeyPatch, api: type[_Api]) -> None:
    monkeypatch.delenv("THALWEG_API_KEY")

    ran = CliRunner().invoke(app, ["search", "leave"])

    assert ran.exit_code == 1
    assert "THALWEG_API_KEY" in ran.output
