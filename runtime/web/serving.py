"""How both APIs are served: one set of bounds for connections and heads. Before it: a process; after it: its app."""

from __future__ import annotations

import uvicorn

from runtime.web.request_head import HeadTimeout


def server_config(app: object, host: str, port: int, *, keep_alive_s: int, grace_s: int) -> uvicorn.Config:
    """What uvicorn is told. keep_alive_s: an idle connection stays so long. grace_s: requests under way get it at the
    end.
    """
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # any ASGI app; uvicorn's union of protocols names none that FastAPI is
        host=host,
        port=port,
        http=HeadTimeout,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=grace_s,
        # Above it callers get 503 at once instead of a place in a queue that nobody serves.
        limit_concurrency=1000,
        h11_max_incomplete_event_size=65_536,
    )
