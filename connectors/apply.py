"""Sources made real: the plan of a source gathered from its three places, carried out, watched, and undone.

Before this: `plan.py`. After this: the connector's changes lie in the source's topic, which capture reads.

The order of `apply` lets it be cut off anywhere and be run again: the definition is stored before the connector makes
the first change, and a new epoch is stored last, when its barriers are out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from connectors.bases import make_bases
from connectors.connect import Connect, ConnectorState, ConnectRefused
from connectors.database import Database, Slot
from connectors.debezium import connector_config, object_name, published_tables
from connectors.definitions import Definitions, send_barriers, write_definition
from connectors.plan import Plan, Running, decide_epoch, make_plan, removal_plan
from connectors.preflight import CheckedSource, check_source
from connectors.source import to_yaml
from connectors.waiting import NotRunning, Progress, await_streaming
from runtime.producer import ConfirmedProducer, Delivery
from runtime.topics import Topics
from schemas.codec import Codec
from schemas.records import SourceDefinition
from schemas.source import SourceSpec


@dataclass(frozen=True)
class Places:
    """Where a source lives. registry_url is the registry's address as the Connect worker reaches it.

    bootstrap is the broker's, as this process reaches it.
    """

    bootstrap: str
    connect: Connect
    definitions: Definitions
    producer: ConfirmedProducer
    codec: Codec
    topics: Topics
    registry_url: str
    tenant: str
    password_reference: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A plan, with what carrying it out needs."""

    checked: CheckedSource
    plan: Plan
    config: dict[str, str]
    tables: frozenset[str]
    definition: SourceDefinition
    running: Running


@dataclass(frozen=True)
class SourceStatus:
    """How a source is: connector None or slot None where there is none. snapshot_done: changes are being streamed."""

    connector: ConnectorState | None
    slot: Slot | None
    definition: SourceDefinition | None

    @property
    def snapshot_done(self) -> bool:
        """The slot is active only once the snapshot is through."""
        return self.slot is not None and self.slot.active

    @property
    def healthy(self) -> bool:
        """Applied, running, and its log is not lost."""
        applied = self.definition is not None and not self.definition.removed
        slot_well = self.slot is not None and not self.slot.lost
        return applied and slot_well and self.connector is not None and self.connector.running


__all__ = ["NotRunning", "Places", "Prepared", "SourceStatus", "apply", "look", "prepare", "remove", "status"]


def look(spec: SourceSpec, places: Places, database: Database) -> Running:
    """What is there of a source now."""
    name = object_name(spec.name)
    config = places.connect.config(spec.connector)
    state = None if config is None else places.connect.status(spec.connector)
    # The slot before the offsets: read the other way round, a healthy pair could look as if the slot were ahead.
    slot = database.slot(name)
    return Running(
        config=config,
        publication=database.publication(name),
        heartbeat=database.has_heartbeat(),
        slot=slot,
        failure=None if state is None else state.failure,
        read_to=None if config is None else places.connect.read_to(spec.connector),
        definition=places.definitions.read().get(f"{places.tenant}/{spec.name}"),
    )


def prepare(spec: SourceSpec, places: Places, database: Database, *, resnapshot: bool = False) -> Prepared:
    """Check the source and plan it; changes nothing. Raises SourceRefused, DatabaseUnavailable, ConnectUnavailable."""
    running = look(spec, places, database)
    checked = check_source(
        spec, database.server(), database.table(spec.schema, spec.table), slot_exists=running.slot is not None
    )
    epoch = decide_epoch(checked.spec, running, resnapshot=resnapshot)
    config = connector_config(
        checked,
        database.address,
        epoch=epoch.number,
        registry_url=places.registry_url,
        password_reference=places.password_reference,
    )
    tables = published_tables(checked)
    text = to_yaml(checked.spec)
    plan = make_plan(checked.spec, config=config, tables=tables, definition=text, epoch=epoch, running=running)
    definition = SourceDefinition(places.tenant, spec.name, text, epoch.number)
    return Prepared(checked, plan, config, tables, definition, running)


def apply(
    prepared: Prepared, places: Places, database: Database, *, wait_s: float, progress: Progress
) -> ConnectorState:
    """Carry a plan out and wait until changes are streamed (of a renewed source: until its snapshot is through).

    1. knowledge base, heartbeat table and publication; 2. the definition, still in its old epoch; 3. the connector, of
    a new epoch with its slot and offsets thrown away before; 4. wait; 5. barriers of a new epoch; 6. the definition in
    it.
    A death after 1 or 2 leaves a source that captures nothing yet; after 3 or 4 a connector that stamps an epoch later
    than the stored one, by which the next `apply` sees that 4 to 6 are due; after 5, barriers that are sent again.
    Raises NotRunning, ConnectRefused, ConnectUnavailable, DatabaseRefused, DeliveryFailed, BrokerUnavailable.
    """
    spec, epoch, stored = prepared.checked.spec, prepared.plan.epoch, prepared.running.definition
    bases = [spec.knowledge_base]
    for base in make_bases(
        places.bootstrap, places.codec, places.producer, places.tenant, bases, timeout_s=min(wait_s, 30.0)
    ):
        progress(f"knowledge base {base}: made")
    if not prepared.running.heartbeat:
        database.make_heartbeat()
    if prepared.running.publication != prepared.tables:
        progress(f"publication {object_name(spec.name)}: {', '.join(sorted(prepared.tables))}")
        database.set_publication(object_name(spec.name), prepared.tables)
    before = replace(prepared.definition, epoch=epoch.number if stored is None else stored.epoch)
    if stored != before:
        write_definition(places.producer, places.codec, before)
    if epoch.reset:
        _reset(spec, places, database, progress)
    _configure(prepared, places, progress)
    state = await_streaming(
        spec, places.connect, database, wait_s=wait_s, progress=progress, past_failure=prepared.running.failure
    )
    if epoch.number != before.epoch:
        cause = _end_old_documents(prepared, places) if epoch.barrier else None
        progress(f"epoch {epoch.number} begins" + ("" if cause is None else ", documents of earlier ones end"))
        write_definition(places.producer, places.codec, prepared.definition)
    return state


def status(spec: SourceSpec, places: Places, database: Database) -> SourceStatus:
    """How the source is now."""
    return SourceStatus(
        places.connect.status(spec.connector),
        database.slot(object_name(spec.name)),
        places.definitions.read().get(f"{places.tenant}/{spec.name}"),
    )


def remove(spec: SourceSpec, places: Places, database: Database, *, delete_documents: bool, progress: Progress) -> Plan:
    """End a source: connector, its offsets, slot and publication go, the definition is marked; returns what was done.

    Its documents stay, unless delete_documents: then a barrier of the next epoch ends them. Twice is no error.
    """
    running = look(spec, places, database)
    plan = removal_plan(spec, running)
    if running.config is not None:
        progress(f"connector {spec.connector}: stopping")
        places.connect.stop(spec.connector)
        places.connect.forget_offsets(spec.connector)
        places.connect.delete(spec.connector)
    database.drop_slot(object_name(spec.name))
    database.drop_publication(object_name(spec.name))
    stored = running.definition
    if stored is not None and (delete_documents or not stored.removed):
        gone = replace(stored, removed=True)
        delivery = write_definition(places.producer, places.codec, gone)
        if delete_documents:
            progress("its documents end")
            _send(spec, places, gone, stored.epoch + 1, delivery)
    return plan


def _configure(prepared: Prepared, places: Places, progress: Progress) -> None:
    name = prepared.checked.spec.connector
    if places.connect.config(name) != prepared.config:
        if wrong := places.connect.validate(prepared.config):
            raise ConnectRefused(f"{name}: {'; '.join(f'{k}: {v}' for k, v in wrong.items())}", wrong)
        progress(f"connector {name}: configuration")
        places.connect.put_config(name, prepared.config)
    elif prepared.running.failure is not None:
        progress(f"connector {name}: starting again")
        places.connect.restart_failed(name)
    if prepared.plan.epoch.reset:
        places.connect.resume(name)


def _reset(spec: SourceSpec, places: Places, database: Database, progress: Progress) -> None:
    progress(f"connector {spec.connector}: stopping, to begin anew")
    if places.connect.config(spec.connector) is not None:
        places.connect.stop(spec.connector)
        places.connect.forget_offsets(spec.connector)
    database.drop_slot(object_name(spec.name))


def _end_old_documents(prepared: Prepared, places: Places) -> Delivery:
    """Barriers of the new epoch. Their cause is the definition, written once more so that it has a position."""
    stored = prepared.running.definition or prepared.definition
    cause = write_definition(places.producer, places.codec, replace(prepared.definition, epoch=stored.epoch))
    _send(prepared.checked.spec, places, prepared.definition, prepared.plan.epoch.number, cause)
    return cause


def _send(spec: SourceSpec, places: Places, definition: SourceDefinition, epoch: int, cause: Delivery) -> None:
    send_barriers(
        places.producer,
        places.codec,
        places.topics,
        definition=definition,
        knowledge_base=spec.knowledge_base,
        stream=spec.stream,
        epoch=epoch,
        reason="removed" if definition.removed else "renewed",
        cause=cause,
        now_ms=int(time.time() * 1000),
    )
