"""The audit's two ways: what must be said before it is done, and what is said afterwards, in bounded memory."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from runtime.acting import recorded
from runtime.audit import AuditLog, AuditUnavailable, Kind, Outcome
from runtime.audit_commands import as_line, shown
from runtime.metrics import Metrics, declare
from runtime.producer import Delivery, DeliveryFailed, Outgoing
from schemas.codec import Codec
from schemas.records import AuditEntry
from schemas.registry import RegistryUnavailable
from tests.support.lookup import LocalLookup

CODEC = Codec(LocalLookup())


class Broker:
    """Takes records, refuses them (`failure`), or does not answer while `gate` is closed."""

    def __init__(self) -> None:
        self.taken: list[AuditEntry] = []
        self.keys: list[bytes | None] = []
        self.failure: DeliveryFailed | None = None
        self.asked = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def submit(self, record: Outgoing) -> Future[Delivery]:
        self.asked.set()
        self.gate.wait(10)
        future: Future[Delivery] = Future()
        if self.failure is not None:
            future.set_exception(self.failure)
            return future
        assert record.topic == "audit"
        self.keys.append(record.key)
        self.taken.append(CODEC.decode(record.value or b"", AuditEntry))
        future.set_result(Delivery("audit", 0, len(self.taken), 1))
        return future


class NoRegistry:
    """A registry that is away."""

    def encode(self, topic: str, record: object) -> bytes:
        raise RegistryUnavailable(f"{topic}: {record}")


def entry(number: int, kind: Kind = Kind.DATA_ACCESS) -> AuditEntry:
    return AuditEntry(number, "ann", "GET /v1/stats", "/v1/stats", Outcome.DONE, "acme", kind=kind)


def count(metrics: Metrics, outcome: str, kind: Kind = Kind.DATA_ACCESS) -> float:
    return metrics.audit_entries.labels(kind=kind, outcome=outcome)._value.get()


@pytest.fixture
def metrics() -> Metrics:
    return declare(CollectorRegistry())


@pytest.fixture
def broker() -> Broker:
    return Broker()


def test_what_is_told_is_written_in_order_under_its_tenant(broker: Broker, metrics: Metrics) -> None:
    log = AuditLog(broker, CODEC, metrics.audit_entries)
    log.start()
    for number in range(1200):
        log.tell(entry(number))

    log.close()

    assert broker.taken == [entry(number) for number in range(1200)]
    assert set(broker.keys) == {b"acme"}
    assert (count(metrics, "written"), count(metrics, "dropped")) == (1200, 0)


def test_telling_never_waits_and_what_there_is_no_room_for_is_counted(broker: Broker, metrics: Metrics) -> None:
    log = AuditLog(broker, CODEC, metrics.audit_entries, room=3)
    broker.gate.clear()
    log.start()
    log.tell(entry(0))
    assert broker.asked.wait(5)

    for number in range(1, 10):
        log.tell(entry(number))
    broker.gate.set()
    log.close()

    assert [item.at_ms for item in broker.taken] == [0, 1, 2]
    assert (count(metrics, "written"), count(metrics, "dropped")) == (3, 7)


def test_what_kafka_did_not_take_is_kept_and_written_when_it_is_back(broker: Broker, metrics: Metrics) -> None:
    log = AuditLog(broker, CODEC, metrics.audit_entries)
    broker.failure = DeliveryFailed("away", retriable=True)
    log.start()
    log.tell(entry(1))
    assert broker.asked.wait(5)

    broker.failure = None
    log.tell(entry(2))
    log.close()

    assert [item.at_ms for item in broker.taken] == [1, 2]
    assert count(metrics, "dropped") == 0


def test_closing_waits_for_so_long_and_counts_what_was_lost(broker: Broker, metrics: Metrics) -> None:
    log = AuditLog(broker, CODEC, metrics.audit_entries)
    broker.failure = DeliveryFailed("away", retriable=True)
    log.start()
    log.tell(entry(1))

    log.close(timeout_s=0.2)

    assert (count(metrics, "written"), count(metrics, "dropped")) == (0, 1)


def test_an_entry_that_is_refused_for_good_holds_up_no_other(broker: Broker, metrics: Metrics) -> None:
    log = AuditLog(broker, CODEC, metrics.audit_entries)
    broker.failure = DeliveryFailed("too large", retriable=False)
    log.start()
    log.tell(entry(1))
    log.close()

    assert count(metrics, "dropped") == 1


@pytest.mark.parametrize("away", ["kafka", "registry"])
def test_what_cannot_be_confirmed_is_not_done(broker: Broker, metrics: Metrics, away: str) -> None:
    broker.failure = DeliveryFailed("away", retriable=True)
    log = AuditLog(broker, CODEC if away == "kafka" else NoRegistry(), metrics.audit_entries)
    done = []

    with (
        pytest.raises(AuditUnavailable, match="nothing was done"),
        recorded(log, Kind.CONFIGURATION, "rebuild.prune", "g1", tenant="acme"),
    ):
        done.append("pruned")

    assert done == []
    assert count(metrics, "written", Kind.CONFIGURATION) == 0


@pytest.mark.parametrize(
    ("error", "ended"),
    [(None, "done"), (typer.Exit(0), "done"), (typer.Exit(1), "failed"), (ValueError("secret text"), "failed")],
)
def test_a_command_is_announced_and_then_it_is_said_how_it_ended(
    broker: Broker, metrics: Metrics, error: Exception | None, ended: str
) -> None:
    log = AuditLog(broker, CODEC, metrics.audit_entries)
    seen = []

    def act() -> None:
        with recorded(log, Kind.CONFIGURATION, "rebuild.prune", "g1", tenant="acme", by="ann"):
            seen.extend(item.outcome for item in broker.taken)
            if error is not None:
                raise error

    if error is None:
        act()
    else:
        with pytest.raises(type(error)):
            act()

    assert seen == ["begun"]
    assert [item.outcome for item in broker.taken] == ["begun", ended]
    assert {(item.actor, item.action, item.resource, item.kind) for item in broker.taken} == {
        ("ann", "rebuild.prune", "g1", "configuration")
    }
    assert "secret text" not in str(broker.taken)


@given(st.text())
def test_no_name_makes_a_line_or_moves_a_cursor(name: str) -> None:
    line = as_line(AuditEntry(1, name, "a", name, "done", name, detail={"documents": name}))

    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert shown("ann/böse \x1b[31m\n") == "ann/böse \\x1b[31m\\n"
