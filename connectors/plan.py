"""What a source wants against what runs: the steps that `apply` would take, and in which epoch. Pure.

Before this: `debezium.py` (wanted), `database.py`, `connect.py` and `definitions.py` (running). After this: `apply.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from connectors.database import HEARTBEAT_TABLE, Slot
from connectors.debezium import SECRETS, epoch_of, object_name
from schemas.records import SourceDefinition
from schemas.source import SourceSpec, parse_source


class Action(StrEnum):
    """What is done to one object."""

    CREATE = "create"
    UPDATE = "update"
    KEEP = "keep"
    RESTART = "restart"
    DELETE = "delete"


@dataclass(frozen=True)
class Difference:
    """One value that changes; secrets are shown as stars."""

    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class Step:
    """One object (`publication`, `heartbeat table`, `connector`, `slot`, `definition`) and what is done to it."""

    action: Action
    what: str
    name: str
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class Running:
    """What is there now; None where it is not.

    failure: why the connector does not run. read_to: the LSN that it remembers having read.
    """

    config: Mapping[str, str] | None = None
    publication: frozenset[str] | None = None
    heartbeat: bool = False
    slot: Slot | None = None
    definition: SourceDefinition | None = None
    failure: str | None = None
    read_to: int | None = None

    @property
    def slot_skips(self) -> bool:
        """True if the slot begins behind what was read: it was made anew. A slot only ever confirms what was read."""
        confirmed = None if self.slot is None else self.slot.confirmed_lsn
        return confirmed is not None and self.read_to is not None and confirmed > self.read_to


@dataclass(frozen=True)
class Epoch:
    """The epoch a source is in after `apply`, and why its table is read anew (None: it is not).

    reset: the connector's offsets and slot are thrown away first. barrier: once the snapshot is through, documents of
    earlier epochs end, for they were deleted while nobody looked.
    """

    number: int
    renewal: str | None = None
    reset: bool = False
    barrier: bool = False


@dataclass(frozen=True)
class Plan:
    """The steps in order. notes say what `apply` will not do by itself."""

    steps: tuple[Step, ...]
    epoch: Epoch
    notes: tuple[str, ...] = ()

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that change something."""
        return tuple(step for step in self.steps if step.action is not Action.KEEP)


def decide_epoch(spec: SourceSpec, running: Running, *, resnapshot: bool = False) -> Epoch:
    """In which epoch the source's changes are to be stamped.

    A new one begins when changes may have been missed: the slot or the connector is gone, the slot is another one or
    its log is lost, the source was removed in the meantime; or a person asks for it. A connector that already stamps a
    later epoch than the stored one means that an earlier `apply` was cut off: it is finished, not begun again.
    """
    stored = running.definition
    ahead = epoch_of(running.config) if running.config else 0
    if stored is None:
        # Nothing was ever captured, so nothing can be out of date; leftovers of a lost topic `sources` go on.
        return Epoch(max(ahead, 1))
    reason = None
    if stored.removed:
        reason = "the source was removed before"
    elif resnapshot:
        reason = "asked for"
    elif running.slot is None:
        reason = "the replication slot is gone: changes may have been missed"
    elif running.slot.lost:
        reason = "the replication slot is lost: the log it needed is gone"
    elif running.slot_skips:
        reason = "the replication slot was made anew: changes may have been missed"
    elif running.config is None:
        reason = "the connector is gone: changes may have been missed"
    if reason is not None:
        number = max(stored.epoch, ahead) + 1
        return Epoch(number, reason, reset=True, barrier=spec.snapshot)
    if ahead > stored.epoch:
        return Epoch(ahead, "an earlier apply was cut off", barrier=spec.snapshot)
    return Epoch(stored.epoch)


def make_plan(
    spec: SourceSpec,
    *,
    config: Mapping[str, str],
    tables: frozenset[str],
    definition: str,
    epoch: Epoch,
    running: Running,
) -> Plan:
    """The steps from what runs to what is wanted. definition is the source's YAML in full."""
    stored = running.definition
    publication = _publication(spec, tables, running.publication)
    heartbeat = Step(Action.KEEP if running.heartbeat else Action.CREATE, "heartbeat table", HEARTBEAT_TABLE)
    steps = [heartbeat, publication]
    if epoch.reset and running.slot is not None:
        steps.append(Step(Action.DELETE, "slot", object_name(spec.name)))
    steps.append(_connector(spec, config, running))
    old = None if stored is None else f"epoch {stored.epoch}{', removed' if stored.removed else ''}"
    if stored is None:
        steps.append(Step(Action.CREATE, "definition", spec.name, (Difference("epoch", None, str(epoch.number)),)))
    elif stored.removed or stored.definition != definition or stored.epoch != epoch.number:
        difference = (Difference("epoch", old, f"epoch {epoch.number}"),) if stored.epoch != epoch.number else ()
        steps.append(Step(Action.UPDATE, "definition", spec.name, difference + _fields(stored.definition, definition)))
    else:
        steps.append(Step(Action.KEEP, "definition", spec.name))
    return Plan(tuple(steps), epoch, _notes(spec, definition, epoch, stored))


def removal_plan(spec: SourceSpec, running: Running) -> Plan:
    """The steps that end a source. The heartbeat table stays: other sources may use it."""
    name = object_name(spec.name)
    epoch = Epoch(running.definition.epoch if running.definition else 1)
    gone = [
        ("connector", spec.connector, running.config is not None),
        ("slot", name, running.slot is not None),
        ("publication", name, running.publication is not None),
        ("definition", spec.name, running.definition is not None and not running.definition.removed),
    ]
    return Plan(
        tuple(Step(Action.DELETE if there else Action.KEEP, what, called) for what, called, there in gone), epoch
    )


def _publication(spec: SourceSpec, wanted: frozenset[str], running: frozenset[str] | None) -> Step:
    name = object_name(spec.name)
    if running is None:
        return Step(Action.CREATE, "publication", name, (Difference("tables", None, ", ".join(sorted(wanted))),))
    if running == wanted:
        return Step(Action.KEEP, "publication", name)
    difference = Difference("tables", ", ".join(sorted(running)), ", ".join(sorted(wanted)))
    return Step(Action.UPDATE, "publication", name, (difference,))


def _connector(spec: SourceSpec, wanted: Mapping[str, str], running: Running) -> Step:
    config = running.config
    if config is None:
        return Step(Action.CREATE, "connector", spec.connector)
    changed = sorted(key for key in wanted.keys() | config.keys() if wanted.get(key) != config.get(key))
    if not changed and running.failure is not None:
        return Step(Action.RESTART, "connector", spec.connector, (Difference("failure", running.failure, None),))
    if not changed:
        return Step(Action.KEEP, "connector", spec.connector)
    return Step(
        Action.UPDATE,
        "connector",
        spec.connector,
        tuple(Difference(key, _shown(key, config.get(key)), _shown(key, wanted.get(key))) for key in changed),
    )


def _shown(key: str, value: str | None) -> str | None:
    return "***" if value is not None and key in SECRETS else value


def _fields(old: str, new: str) -> tuple[Difference, ...]:
    before, after = vars(parse_source(old)), vars(parse_source(new))
    return tuple(Difference(name, str(before[name]), str(after[name])) for name in after if before[name] != after[name])


def _notes(spec: SourceSpec, definition: str, epoch: Epoch, stored: SourceDefinition | None) -> tuple[str, ...]:
    notes = []
    if epoch.renewal is not None:
        what = "the whole table is read anew" if spec.snapshot else "only changes from now on are captured"
        end = ", and documents whose rows are gone end" if epoch.barrier else ""
        notes.append(f"Epoch {epoch.number} ({epoch.renewal}): {what}{end}.")
    elif stored is not None and stored.definition != definition:
        notes.append(
            "The definition changed: rows captured before keep their old form until they change; --resnapshot takes "
            "all of them anew."
        )
    return tuple(notes)
