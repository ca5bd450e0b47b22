"""The keeper against a small server that answers as Kafka Connect does."""

from __future__ import annotations

from connectors.connect import Connect
from connectors.keeper import ConnectorKeeper
from tests.unit.connectors.test_connect import Answer, connect_server


def state(name: str, task: str) -> Answer:
    body = {"name": name, "connector": {"state": "RUNNING"}, "tasks": [{"id": 0, "state": task, "trace": "E: gone"}]}
    return 200, body


RESTARTED: Answer = (202, {})
NAMES: Answer = (200, ["thalweg-a", "somebody-elses"])


def test_what_failed_is_started_again_and_the_connectors_of_others_are_left_alone() -> None:
    with connect_server(NAMES, state("thalweg-a", "FAILED"), RESTARTED) as (url, seen):
        assert ConnectorKeeper(Connect(url)).look() == ["thalweg-a"]
    assert [request[:2] for request in seen] == [
        ("GET", "/connectors"),
        ("GET", "/connectors/thalweg-a/status"),
        ("POST", "/connectors/thalweg-a/restart?includeTasks=true&onlyFailed=true"),
    ]


def test_what_runs_is_left_alone() -> None:
    with connect_server(NAMES, state("thalweg-a", "RUNNING")) as (url, seen):
        assert ConnectorKeeper(Connect(url)).look() == []
    assert all(request[0] == "GET" for request in seen)


def test_a_failure_that_stays_is_tried_at_growing_distances_and_anew_after_it_ran() -> None:
    now = [0.0]
    failed, ran = state("thalweg-a", "FAILED"), state("thalweg-a", "RUNNING")
    answers = [
        *(NAMES, failed, RESTARTED),  # at 0: the next try is due at 5
        *(NAMES, failed),  # at 4
        *(NAMES, failed, RESTARTED),  # at 5: due at 15
        *(NAMES, failed),  # at 14
        *(NAMES, ran),  # at 15: forgotten
        *(NAMES, failed, RESTARTED),  # at 16
    ]
    with connect_server(*answers) as (url, _):
        keeper = ConnectorKeeper(Connect(url), now=lambda: now[0])
        tried = []
        for moment in (0, 4, 5, 14, 15, 16):
            now[0] = float(moment)
            if keeper.look():
                tried.append(moment)
    assert tried == [0, 5, 16]
