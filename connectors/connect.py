"""Kafka Connect's REST API: the few calls that connectors need, each bounded, retried while Connect rebalances.

Before this: `plan.py` decides. After this: a connector runs. Protocol: Kafka Connect, "REST API".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests
import stamina


class ConnectUnavailable(Exception):
    """Connect did not answer in time, rebalances still, or fails inside: the same call may succeed later."""


class ConnectRefused(Exception):
    """Connect refuses a call for good; the text is its own message. fields: configuration errors by property."""

    def __init__(self, text: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.fields = dict(fields or {})


@dataclass(frozen=True)
class TaskState:
    """One task: RUNNING, FAILED, UNASSIGNED, PAUSED, STOPPED or RESTARTING; reason is the cause of a failure."""

    id: int
    state: str
    reason: str | None


@dataclass(frozen=True)
class ConnectorState:
    """A connector and its tasks, as Connect last heard of them."""

    name: str
    state: str
    reason: str | None
    tasks: tuple[TaskState, ...]

    @property
    def running(self) -> bool:
        """True if the connector and each of its tasks (one at least) run."""
        return self.state == "RUNNING" and bool(self.tasks) and all(task.state == "RUNNING" for task in self.tasks)

    @property
    def failure(self) -> str | None:
        """Why it failed, None if it did not."""
        for state, reason in ((self.state, self.reason), *((task.state, task.reason) for task in self.tasks)):
            if state == "FAILED":
                return reason or "no reason given"
        return None


class Connect:
    """A client of one Connect cluster. Every call ends within deadline_s, or raises ConnectUnavailable."""

    def __init__(self, url: str, *, timeout_s: float = 10.0, deadline_s: float = 60.0) -> None:
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/json"

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def plugins(self) -> list[str]:
        """The classes of connectors that the workers can run."""
        return [plugin["class"] for plugin in self._call("GET", "/connector-plugins")]

    def validate(self, config: Mapping[str, str]) -> dict[str, str]:
        """What is wrong with a configuration, by property; empty if nothing. Connect asks the database, too."""
        plugin = config["connector.class"]
        body = {"name": "validated", **config}
        answer = self._call("PUT", f"/connector-plugins/{quote(plugin, safe='')}/config/validate", body)
        return {
            entry["value"]["name"]: " ".join(entry["value"]["errors"])
            for entry in answer["configs"]
            if entry["value"]["errors"]
        }

    def config(self, name: str) -> dict[str, str] | None:
        """The connector's configuration without its `name`, None if there is no such connector."""
        found = self._call("GET", f"{_path(name)}/config", none_if_missing=True)
        return None if found is None else {key: value for key, value in found.items() if key != "name"}

    def put_config(self, name: str, config: Mapping[str, str]) -> None:
        """Make the connector, or give it another configuration. Raises ConnectRefused for a wrong one."""
        self._call("PUT", f"{_path(name)}/config", dict(config))

    def status(self, name: str) -> ConnectorState | None:
        """The connector's state, None if there is no such connector, or none was told yet."""
        found = self._call("GET", f"{_path(name)}/status", none_if_missing=True)
        if found is None:
            return None
        tasks = (TaskState(task["id"], task["state"], _cause(task.get("trace"))) for task in found["tasks"])
        whole = found["connector"]
        return ConnectorState(name, whole["state"], _cause(whole.get("trace")), tuple(tasks))

    def restart_failed(self, name: str) -> None:
        """Start the connector and its tasks again where they failed."""
        self._call("POST", f"{_path(name)}/restart?includeTasks=true&onlyFailed=true")

    def stop(self, name: str) -> None:
        """End the connector's tasks and keep its configuration; a missing connector is no error."""
        self._call("PUT", f"{_path(name)}/stop", none_if_missing=True)

    def resume(self, name: str) -> None:
        """Let a stopped connector run again."""
        self._call("PUT", f"{_path(name)}/resume")

    def forget_offsets(self, name: str) -> None:
        """Drop what the stopped connector remembers of its source; it then starts anew. Retried until it stopped."""
        self._call("DELETE", f"{_path(name)}/offsets", none_if_missing=True, again_on_400=True)

    def read_to(self, name: str) -> int | None:
        """The LSN up to which the connector remembers having read its source; None if it remembers nothing."""
        found = self._call("GET", f"{_path(name)}/offsets", none_if_missing=True)
        offsets = [entry.get("offset") or {} for entry in (found or {}).get("offsets", [])]
        places = [offset.get(field) for offset in offsets for field in ("lsn", "lsn_proc", "lsn_commit")]
        return max((place for place in places if isinstance(place, int)), default=None)

    def names(self) -> list[str]:
        """The connectors there are."""
        return list(self._call("GET", "/connectors"))

    def delete(self, name: str) -> None:
        """Remove the connector; one that is not there is no error."""
        self._call("DELETE", _path(name), none_if_missing=True)

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        none_if_missing: bool = False,
        again_on_400: bool = False,
    ) -> Any:
        for attempt in stamina.retry_context(
            on=ConnectUnavailable, attempts=None, timeout=self._deadline_s, wait_initial=0.1, wait_max=2.0
        ):
            with attempt:
                return self._once(method, path, body, none_if_missing, again_on_400)
        raise AssertionError("unreachable: the retry context raises its last error")

    def _once(
        self, method: str, path: str, body: Mapping[str, Any] | None, none_if_missing: bool, again_on_400: bool
    ) -> Any:
        try:
            answer = self._session.request(method, self._url + path, json=body, timeout=self._timeout_s)
        except requests.RequestException as error:
            raise ConnectUnavailable(
                f"no answer from Kafka Connect at {self._url}: {type(error).__name__}; is it running?"
            ) from error
        if answer.status_code < 300:
            return answer.json() if answer.content else None
        if answer.status_code == 404 and none_if_missing:
            return None
        text = f"Kafka Connect: {message_of(answer.text)} (HTTP {answer.status_code})"
        if answer.status_code in (408, 409, 429) or answer.status_code >= 500:
            raise ConnectUnavailable(text)
        if answer.status_code == 400 and again_on_400:
            raise ConnectUnavailable(text)
        raise ConnectRefused(text)


def message_of(body: str) -> str:
    """Connect's own words, on one line: of a message that ends in a colon, what follows it too."""
    try:
        text = str(json.loads(body).get("message", body))
    except (ValueError, AttributeError):
        text = body
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "no message"
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def _cause(trace: str | None) -> str | None:
    """The innermost cause of a Java stack trace, as its first line says it."""
    if not trace:
        return None
    causes = [line.strip() for line in trace.splitlines() if line.startswith("Caused by: ")]
    return (causes[-1].removeprefix("Caused by: ") if causes else trace.splitlines()[0].strip())[:500]


def _path(name: str) -> str:
    return f"/connectors/{quote(name, safe='')}"
