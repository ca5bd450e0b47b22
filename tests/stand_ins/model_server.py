"""A model server on the loopback address that speaks Cohere's and OpenAI's real protocols, and misbehaves on command.

In a test: `with ModelServer() as server:`. From other processes: `python -m tests.stand_ins.model_server
--port 0` prints `{"url": ...}` as its first line, and `POST /__control` takes what the methods take:
`{"do": "misbehave", "kind": "rate_limit", "times": 3}`, `{"do": "reset"}`, `{"do": "stats"}`,
`{"do": "answer", "text": "..."}`, `{"do": "dimension", "value": 8}`, `{"do": "marker", "text": "..."}`.
"""

import argparse
import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from tests.stand_ins import model_protocols as protocols
from tests.stand_ins.model_control import STATUS, Call, Fault, ModelControl


class ModelServer(ModelControl):
    """The stand-in in this process, on a thread; `port` 0 takes a free one."""

    def __init__(self, dimension: int = 64, port: int = 0) -> None:
        super().__init__(dimension)
        handler = type("BoundHandler", (_Handler,), {"server_of": self})
        self._http = _Server(("127.0.0.1", port), handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The root: what Cohere's client wants. OpenAI's clients want `openai_url`."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def openai_url(self) -> str:
        """The root of the OpenAI endpoints."""
        return f"{self.url}/v1"

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Releases hanging requests, too."""
        self.state.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is part of many tests, not worth a traceback."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body in one packet at once: else each answer waits 40 ms for the client's acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = 65536
    server_of: ModelServer

    def do_GET(self) -> None:
        if self.path == "/__control":
            self._json(200, self.server_of.stats())
        elif self.path == "/health":
            self._json(200, {"status": "ok"})
        else:
            self._json(404, {"message": f"no {self.path}"})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        try:
            body = json.loads(self.rfile.read(length) or b"{}")
        except ValueError:
            self._json(400, {"message": "not JSON"})
            return
        if self.path == "/__control":
            try:
                self._json(200, self.server_of.control(body))
            except (TypeError, ValueError, KeyError) as error:
                self._json(400, {"message": str(error)})
            return
        if self.path not in protocols.ANSWER:
            self._json(404, {"message": f"no {self.path}"})
            return
        self._model(body)

    def _model(self, body: dict[str, Any]) -> None:
        server, state = self.server_of, self.server_of.state
        texts = tuple(protocols.texts_of(body))
        call = Call(self.path, body, self.headers.get("Authorization", ""), texts, str(body.get("input_type", "")))
        fault = server.remember(call)
        kind = fault.kind if fault else ""
        if fault and self._failed_early(fault):
            return
        if problem := protocols.complaint(self.path, body, texts):
            self._json(422, protocols.error(self.path, problem))
            return
        if state.marker and any(state.marker in text for text in texts):
            self._json(400, protocols.error(self.path, "a text is not acceptable"))
            return
        if body.get("stream"):
            with state.lock:
                answer = state.answer
            self._stream(protocols.stream(self.path, body, answer), fault)
            return
        answer = protocols.ANSWER[self.path](body, state.dimension, state.answer)
        protocols.spoil(answer, kind)
        if fault and kind == "trickle":
            self._trickle(answer, fault.seconds)
            return
        self._json(200, answer)

    def _failed_early(self, fault: Fault) -> bool:
        if fault.kind in STATUS:
            headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            self._json(STATUS[fault.kind], protocols.error(self.path, f"told to: {fault.kind}"), headers)
            return True
        if fault.kind in ("hang", "slow"):
            self.server_of.state.stopping.wait(fault.seconds)
        if fault.kind in ("hang", "drop"):
            self.close_connection = True
            return True
        if fault.kind == "garbage":
            self._send(200, b"<html>Bad gateway</html>", "application/json", {})
            return True
        if fault.kind == "strange":
            self._json(200, {"id": "x", "embeddings": "none", "data": "none", "results": "none", "texts": 3})
            return True
        return False

    def _json(self, status: int, answer: object, headers: dict[str, str] | None = None) -> None:
        self._send(status, json.dumps(answer).encode(), "application/json", headers or {})

    def _send(self, status: int, payload: bytes, content_type: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(payload)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def _trickle(self, answer: object, seconds: float) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        for byte in json.dumps(answer).encode()[: int(seconds * 10)]:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.server_of.state.stopping.wait(0.1):
                return

    def _stream(self, events: list[str], fault: Fault | None) -> None:
        kind = fault.kind if fault else ""
        middle = len(events) // 2
        spoilt = protocols.spoilt_event(self.path, kind)
        if spoilt is not None:
            events = [*events[:middle], spoilt, *([] if kind == "error_frame" else events[middle:])]
        elif kind in ("cut", "ended", "silent", "pings"):
            events = events[:middle]
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for event in events:
                if fault and kind == "paced":
                    self.server_of.state.stopping.wait(fault.seconds)
                self._chunk(event)
            if fault and kind in ("silent", "pings"):
                for _ in range(int(fault.seconds * 10)):
                    if self.server_of.state.stopping.wait(0.1):
                        return
                    if kind == "pings":
                        self._chunk(": ping\n\n")
            if kind not in ("cut", "silent", "pings"):
                self.wfile.write(b"0\r\n\r\n")
                self.wfile.flush()
        except OSError:
            self.server_of.state.hung_up.set()

    def _chunk(self, text: str) -> None:
        payload = text.encode()
        self.wfile.write(f"{len(payload):x}\r\n".encode() + payload + b"\r\n")
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the parent's name
        """Silent: tests read their own output."""


def main() -> None:
    """Serve until SIGTERM or Ctrl-C; the first line printed is `{"url": ..., "openai_url": ...}`."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dimension", type=int, default=64)
    options = parser.parse_args()
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with ModelServer(options.dimension, options.port) as server:
        print(json.dumps({"url": server.url, "openai_url": server.openai_url}), flush=True)
        done.wait()


if __name__ == "__main__":
    main()
