"""Health and metrics of a worker, on a port of its own: `/health`, `/ready`, `/metrics`.

Before this: `bootstrap.py`. After this: Prometheus, the supervisor, a cluster's probes. Faust's own web server is off:
it binds to every address, and a second worker on the host then dies.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


def serve(host: str, port: int, registry: CollectorRegistry, ready: Callable[[], str | None]) -> int:
    """Serve from a daemon thread; the port that was bound. ready returns None, or what is missing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = 404, "application/problem+json", b'{"status":404,"title":"Not Found"}'
            if self.path == "/metrics":
                status, kind, body = 200, CONTENT_TYPE_LATEST, generate_latest(registry)
            elif self.path == "/health":
                status, kind, body = 200, "application/json", b'{"status":"alive"}'
            elif self.path == "/ready":
                missing = ready()
                status, kind = (200, "application/json") if missing is None else (503, "application/problem+json")
                answer = (
                    {"status": "ready"} if missing is None else {"status": 503, "title": "Not ready", "detail": missing}
                )
                body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: a probe every second is no news."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="probe", daemon=True).start()
    return int(server.server_address[1])
