"""The REST client against a small HTTP server that answers as Kafka Connect does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from connectors.connect import Connect, ConnectRefused, ConnectUnavailable, message_of

Answer = tuple[int, object]


@contextmanager
def connect_server(*answers: Answer) -> Iterator[tuple[str, list[tuple[str, str, object]]]]:
    """Gives the answers one by one (the last one for ever); yields its URL and the requests it saw."""
    seen: list[tuple[str, str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, said = answers[min(len(seen), len(answers) - 1)]
            seen.append((self.command, self.path, body))
            payload = b"" if said is None else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


REBALANCE: Answer = (409, {"error_code": 409, "message": "Cannot complete request: a rebalance is expected"})


def test_a_rebalance_is_waited_out() -> None:
    with connect_server(REBALANCE, REBALANCE, (201, {"name": "a"})) as (url, seen):
        Connect(url).put_config("thalweg-a", {"x": "1"})
    assert [request[:2] for request in seen] == [("PUT", "/connectors/thalweg-a/config")] * 3
    assert seen[-1][2] == {"x": "1"}


def test_a_rebalance_without_end_is_told_in_connects_words() -> None:
    with (
        connect_server(REBALANCE) as (url, _),
        pytest.raises(ConnectUnavailable, match=r"a rebalance is expected \(HTTP 409\)"),
    ):
        Connect(url, deadline_s=0.5).put_config("thalweg-a", {})


def test_a_refused_connection_says_where_nothing_answered() -> None:
    with pytest.raises(ConnectUnavailable, match=r"127\.0\.0\.1:9: ConnectionError; is it running"):
        Connect("http://127.0.0.1:9", deadline_s=0.3).config("a")


def test_a_wrong_configuration_is_refused_at_once() -> None:
    refusal = {"error_code": 400, "message": "Connector configuration is invalid and contains:\nno slot name\nmore"}
    with (
        connect_server((400, refusal)) as (url, seen),
        pytest.raises(ConnectRefused, match=r"contains: no slot name \(HTTP 400\)"),
    ):
        Connect(url).put_config("a", {})
    assert len(seen) == 1


def test_a_connector_that_is_not_there_is_none_and_its_removal_no_error() -> None:
    with connect_server((404, {"error_code": 404, "message": "Connector a not found"})) as (url, _):
        client = Connect(url)
        assert client.config("a") is None
        assert client.status("a") is None
        client.delete("a")


def test_a_failed_task_tells_its_innermost_cause() -> None:
    trace = (
        "org.ConnectException: outer\n\tat x\nCaused by: java.E: middle\n\tat y\nCaused by: java.F: disk full\n\tat z"
    )
    body = {
        "name": "a",
        "connector": {"state": "RUNNING", "worker_id": "w"},
        "tasks": [{"id": 0, "state": "FAILED", "worker_id": "w", "trace": trace}],
    }
    with connect_server((200, body)) as (url, _):
        state = Connect(url).status("a")
    assert state is not None
    assert not state.running
    assert state.failure == "java.F: disk full"


def test_validation_names_the_properties_that_are_wrong() -> None:
    configs = [
        {"value": {"name": "database.hostname", "errors": ["is required"]}},
        {"value": {"name": "x", "errors": []}},
    ]
    with connect_server((200, {"configs": configs})) as (url, seen):
        wrong = Connect(url).validate({"connector.class": "io.Example"})
    assert wrong == {"database.hostname": "is required"}
    assert seen[0][1] == "/connector-plugins/io.Example/config/validate"


def test_the_name_of_a_connector_is_no_part_of_its_configuration() -> None:
    with connect_server((200, {"name": "a", "x": "1"})) as (url, _):
        assert Connect(url).config("a") == {"x": "1"}


@pytest.mark.parametrize(
    ("body", "said"),
    [("<html>", "<html>"), ("", "no message"), ('{"message": "one\\ntwo"}', "one"), ("[1]", "[1]")],
)
def test_any_body_becomes_one_line(body: str, said: str) -> None:
    assert message_of(body) == said
