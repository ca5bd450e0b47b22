"""A streamed answer as it is heard over HTTP, event by event. Before it: the query API. After it: `commands.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from runtime.server_sent import EventReader


def listen(
    url: str, body: Mapping[str, Any], key: str, *, longest_silence_s: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of the answer to this question, as (name, data); the last one is `done` or `error`.

    A server that answers whole gives one event. Raises httpx.HTTPError where the connection fails; an iteration that
    ends without one of the last two broke off.
    """
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream, application/json;q=0.5"}
    with (
        httpx.Client(timeout=longest_silence_s, trust_env=False) as client,
        client.stream("POST", url, json=dict(body), headers=headers) as answered,
    ):
        if "text/event-stream" not in answered.headers.get("Content-Type", ""):
            answered.read()
            yield "error" if answered.is_error else "done", answered.json()
            return
        reader = EventReader()
        for piece in answered.iter_bytes():
            for event in reader.feed(piece):
                yield event.event, json.loads(event.data)
                if event.event in ("done", "error"):
                    return
