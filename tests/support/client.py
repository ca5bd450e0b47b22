"""Both APIs as a caller sees them, with the demo key; and the one way in which tests wait.

Before this: a running product. After this: scenarios, faults, integration tests.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import psutil

from runtime.server_sent import EventReader

T = TypeVar("T")


def eventually(check: Callable[[], T], within_s: float = 30.0, *, every_s: float = 0.1) -> T:
    """What `check` returns once it neither raises AssertionError nor returns False.

    The last failure is raised when the time is up; anything else that `check` raises, at once. A process that ended
    while `check` looked at it is no failure yet: another one may be there the next time.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            found = check()
            if found is not False:
                return found
            failure = AssertionError(f"not within {within_s:g} s: {getattr(check, '__name__', 'the check')}")
        except AssertionError as error:
            failure = error
        except psutil.Error as error:
            failure = AssertionError(f"a process was gone, or not waited for yet: {error}")
        if time.monotonic() > deadline:
            raise failure
        time.sleep(every_s)


class Client:
    """Upload and query API of one product. Use as a context manager."""

    def __init__(self, query_url: str, upload_url: str, key: str) -> None:
        self.key = key
        headers = {"Authorization": f"Bearer {key}"}
        self.query = httpx.Client(base_url=query_url, headers=headers, timeout=60, trust_env=False)
        self.ingest = httpx.Client(base_url=upload_url, headers=headers, timeout=60, trust_env=False)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.query.close()
        self.ingest.close()

    def search(self, query: str, knowledge_base: str, **more: Any) -> list[dict[str, Any]]:
        """The hits."""
        body = {"query": query, "knowledge_bases": [knowledge_base], **more}
        answered = self.query.post("/v1/search", json=body)
        assert answered.status_code == 200, answered.text
        hits: list[dict[str, Any]] = answered.json()["hits"]
        return hits

    def document(self, document_id: str, knowledge_base: str) -> dict[str, Any] | None:
        """What is indexed of a document; None if there is none."""
        answered = self.query.get(f"/v1/documents/{quote(document_id)}", params={"knowledge_base": knowledge_base})
        if answered.status_code == 404:
            assert answered.json()["type"] == "/problems/document-not-found", answered.text
            return None
        assert answered.status_code == 200, answered.text
        found: dict[str, Any] = answered.json()
        return found

    def publish(self, document_id: str, text: str, knowledge_base: str, **more: Any) -> str:
        """Publish a document; its position."""
        body = {"text": text, "knowledge_base": knowledge_base, **more}
        answered = self.ingest.put(f"/v1/documents/{quote(document_id)}", json=body)
        assert answered.status_code == 202, answered.text
        return str(answered.json()["position"])

    def upload(self, filename: str, content: bytes, knowledge_base: str, **more: Any) -> dict[str, Any]:
        """Upload a file; the answer `{upload_id, document_id, position}`."""
        data = {"knowledge_base": knowledge_base, **more}
        answered = self.ingest.post("/v1/uploads", files={"file": (filename, content)}, data=data)
        assert answered.status_code == 202, answered.text
        found: dict[str, Any] = answered.json()
        return found

    def upload_state(self, upload_id: str) -> dict[str, Any]:
        """How far an upload came."""
        answered = self.ingest.get(f"/v1/uploads/{upload_id}")
        assert answered.status_code == 200, answered.text
        found: dict[str, Any] = answered.json()
        return found

    def upload_events(self, upload_id: str, within_s: float = 60.0) -> list[tuple[str, dict[str, Any]]]:
        """The upload's server-sent events up to the stream's end, as (event, data). Fails if it does not end."""
        deadline = time.monotonic() + within_s
        with self.ingest.stream("GET", f"/v1/uploads/{upload_id}/events", timeout=within_s) as stream:
            assert stream.status_code == 200, stream.read()
            assert stream.headers["content-type"].startswith("text/event-stream")
            found, reader = [], EventReader()
            for piece in stream.iter_bytes():
                found += [(event.event, json.loads(event.data)) for event in reader.feed(piece)]
                assert time.monotonic() < deadline, f"the stream of {upload_id} goes on and on: {found}"
        return found
