"""A connector awaited until changes flow. Before this: `apply.py` configured it. After this: rows become records."""

from __future__ import annotations

import time
from collections.abc import Callable

from connectors.connect import Connect, ConnectorState
from connectors.database import Database, Slot
from connectors.debezium import object_name
from schemas.source import SourceSpec

Progress = Callable[[str], None]
PAST_FAILURE_S = 15.0


class NotRunning(Exception):
    """The connector did not come up in time, or failed; the text is its cause in its own words."""


def await_streaming(
    spec: SourceSpec,
    connect: Connect,
    database: Database,
    *,
    wait_s: float,
    progress: Progress,
    past_failure: str | None = None,
) -> ConnectorState:
    """Wait until the connector runs and its slot is active, which it is only once the snapshot is through.

    past_failure: a failure from before, which Connect may go on telling for a moment. Raises NotRunning.
    """
    deadline, past_until = time.monotonic() + wait_s, time.monotonic() + PAST_FAILURE_S
    told = ""
    while True:
        state = connect.status(spec.connector)
        slot = database.slot(object_name(spec.name))
        past = state is not None and state.failure == past_failure and time.monotonic() < past_until
        if state is not None and state.failure is not None and not past:
            raise NotRunning(f"{spec.connector} failed: {state.failure}")
        if state is not None and state.running and slot is not None and slot.active:
            progress(f"connector {spec.connector}: running, changes are streamed")
            return state
        now = _phase(state, slot)
        if now != told:
            progress(f"connector {spec.connector}: {now}")
            told = now
        if time.monotonic() > deadline:
            raise NotRunning(
                f"{spec.connector} is not streaming after {wait_s:g} s ({now}); it goes on by itself, and running "
                "`sources apply` again waits on"
            )
        time.sleep(0.25)


def _phase(state: ConnectorState | None, slot: Slot | None) -> str:
    if state is None or not state.tasks:
        return "starting"
    if state.running and slot is not None:
        return "taking the snapshot"
    return "/".join([state.state.lower(), *(task.state.lower() for task in state.tasks)])
