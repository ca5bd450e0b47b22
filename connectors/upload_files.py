"""Files through the upload API, one after another, each followed until it is searchable or failed.

Before this: `thalweg upload PATH...`. After this: the upload API.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import stamina

POLL_S = 0.3


class ApiUnavailable(Exception):
    """The upload API does not answer, or says that it cannot now."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file. state is `searchable`, `failed`, `refused`, or one on the way if time was up."""

    path: str
    state: str
    document_id: str | None = None
    upload_id: str | None = None
    position: str | None = None
    reason: str | None = None

    @property
    def well(self) -> bool:
        """It arrived: searchable, or (not waited for) received."""
        return self.state not in ("failed", "refused", "late")


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The files of these paths, folders recursed in order; hidden files and folders are left out.

    Raises FileNotFoundError for a path that is not there.
    """
    found: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such file or folder")
        if path.is_dir():
            found += sorted(
                file
                for file in path.rglob("*")
                if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
            )
        else:
            found.append(path)
    return list(dict.fromkeys(found))


class Uploader:
    """A client of the upload API for one key and one set of fields."""

    def __init__(self, client: httpx.Client, fields: Mapping[str, str], *, timeout_s: float) -> None:
        self._client = client
        self._fields = dict(fields)
        self._timeout_s = timeout_s

    def send(self, path: Path) -> Outcome:
        """Send one file; returns once it is durable, or refused. Raises ApiUnavailable after about a minute of tries.

        A try after a lost answer carries the same Idempotency-Key: it is one upload.
        """
        key = str(uuid.uuid4())
        try:
            answer = self._post(path, key)
        except OSError as error:
            return Outcome(str(path), "refused", reason=f"cannot be read: {error.strerror}")
        if answer.status_code != 202:
            return Outcome(str(path), "refused", reason=_reason(answer))
        body = answer.json()
        return Outcome(str(path), "received", body["document_id"], body["upload_id"], body["position"])

    def follow(self, sent: Outcome, tell: Callable[[str], None]) -> Outcome:
        """Follow a sent file to its end, at most timeout_s; tell gets each new state."""
        deadline, told = time.monotonic() + self._timeout_s, sent.state
        while time.monotonic() < deadline:
            body = self._state(sent.upload_id or "")
            if body.get("state") not in (None, told):
                told = str(body["state"])
                tell(told)
            if told in ("searchable", "failed"):
                return Outcome(sent.path, told, sent.document_id, sent.upload_id, sent.position, body.get("reason"))
            time.sleep(POLL_S)
        reason = f"still {told} after {self._timeout_s:g} s; it goes on"
        return Outcome(sent.path, "late", sent.document_id, sent.upload_id, sent.position, reason)

    def _post(self, path: Path, key: str) -> httpx.Response:
        for attempt in stamina.retry_context(on=ApiUnavailable, attempts=None, timeout=60.0, wait_max=5.0):
            with attempt, path.open("rb") as content:
                try:
                    answer = self._client.post(
                        "/v1/uploads",
                        files={"file": (path.name, content, "application/octet-stream")},
                        data=self._fields,
                        headers={"Idempotency-Key": key},
                    )
                except httpx.HTTPError as error:
                    raise ApiUnavailable(f"the upload API does not answer: {type(error).__name__}") from error
                if answer.status_code in (409, 429, 502, 503, 504):
                    raise ApiUnavailable(_reason(answer))
                return answer
        raise AssertionError("unreachable: the retry context raises its last error")

    def _state(self, upload_id: str) -> dict[str, Any]:
        """The upload's state; empty while the API is away: what is asked next time."""
        try:
            answer = self._client.get(f"/v1/uploads/{upload_id}")
        except httpx.HTTPError:
            return {}
        return dict(answer.json()) if answer.status_code == 200 else {}


def upload_all(
    uploader: Uploader, files: Iterable[Path], *, wait: bool, tell: Callable[[str, str], None]
) -> Iterator[Outcome]:
    """Send all files, then follow each (if wait); tell gets a path and its new state."""
    sent: list[Outcome] = []
    for file in files:
        outcome = uploader.send(file)
        tell(outcome.path, outcome.state)
        if outcome.well and wait:
            sent.append(outcome)
        else:
            yield outcome
    for outcome in sent:
        path = outcome.path
        yield uploader.follow(outcome, lambda state, path=path: tell(path, state))  # type: ignore[misc]


def _reason(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
        return f"{problem.get('detail') or problem.get('title')} (HTTP {answer.status_code})"
    except (ValueError, AttributeError):
        return f"HTTP {answer.status_code}"
