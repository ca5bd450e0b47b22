from collections.abc import Mapping
from dataclasses import replace

import pytest

from connectors.debezium import connector_config, published_tables
from connectors.plan import Action, Epoch, Plan, Running, decide_epoch, make_plan, removal_plan
from connectors.preflight import CheckedSource
from connectors.source import to_yaml
from schemas.records import SourceDefinition
from tests.unit.connectors.samples import ADDRESS, LOST, SPEC, STREAMING

CHECKED = CheckedSource(replace(SPEC, key=("id",)))
TEXT = to_yaml(CHECKED.spec)
TABLES = published_tables(CHECKED)
STORED = SourceDefinition("acme", "articles", TEXT, epoch=2)


def config(epoch: int) -> dict[str, str]:
    return connector_config(CHECKED, ADDRESS, epoch=epoch, registry_url="http://r")


APPLIED = Running(config(2), TABLES, True, STREAMING, STORED, read_to=100)


def plan_for(running: Running, *, resnapshot: bool = False, wanted: Mapping[str, str] | None = None) -> Plan:
    epoch = decide_epoch(CHECKED.spec, running, resnapshot=resnapshot)
    return make_plan(
        CHECKED.spec,
        config=wanted or config(epoch.number),
        tables=TABLES,
        definition=TEXT,
        epoch=epoch,
        running=running,
    )


def actions(plan: Plan) -> dict[str, Action]:
    return {step.what: step.action for step in plan.steps}


def test_nothing_there_is_created_in_epoch_one() -> None:
    plan = plan_for(Running())
    assert set(actions(plan).values()) == {Action.CREATE}
    assert list(actions(plan)) == ["heartbeat table", "publication", "connector", "definition"]
    assert plan.epoch == Epoch(1)


def test_what_is_applied_is_kept() -> None:
    plan = plan_for(APPLIED)
    assert plan.changes == ()
    assert set(actions(plan).values()) == {Action.KEEP}
    assert plan.epoch == Epoch(2)


def test_a_changed_setting_is_shown_and_a_changed_password_is_not() -> None:
    wanted = {**config(2), "poll.interval.ms": "100", "database.password": "other"}
    (step,) = plan_for(APPLIED, wanted=wanted).changes
    told = {item.name: (item.old, item.new) for item in step.differences}
    assert told == {"database.password": ("***", "***"), "poll.interval.ms": ("50", "100")}
    assert "s3cret" not in str(step)


def test_a_changed_definition_keeps_the_epoch_and_says_what_it_leaves() -> None:
    older = replace(STORED, definition=to_yaml(replace(CHECKED.spec, title=None)))
    plan = plan_for(replace(APPLIED, definition=older))
    (step,) = plan.changes
    assert step.what == "definition"
    assert [(item.name, item.old, item.new) for item in step.differences] == [("title", "None", "title")]
    assert plan.epoch == Epoch(2)
    assert "--resnapshot" in plan.notes[0]


@pytest.mark.parametrize(
    ("running", "reason"),
    [
        (replace(APPLIED, slot=None), "slot is gone"),
        (replace(APPLIED, slot=LOST), "slot is lost"),
        (replace(APPLIED, config=None), "connector is gone"),
        (replace(APPLIED, read_to=99), "slot was made anew"),
        (replace(APPLIED, definition=replace(STORED, removed=True)), "removed before"),
    ],
)
def test_changes_that_may_have_been_missed_begin_a_new_epoch(running: Running, reason: str) -> None:
    plan = plan_for(running)
    assert plan.epoch.number == 3
    assert plan.epoch.reset
    assert plan.epoch.barrier
    assert reason in (plan.epoch.renewal or "")
    assert actions(plan)["definition"] is Action.UPDATE


def test_a_failed_connector_is_started_again_and_its_failure_told() -> None:
    (step,) = plan_for(replace(APPLIED, failure="disk full")).changes
    assert (step.what, step.action) == ("connector", Action.RESTART)
    assert "disk full" in str(step)
    changed = {**config(2), "poll.interval.ms": "1"}
    (step,) = plan_for(replace(APPLIED, failure="disk full"), wanted=changed).changes
    assert step.action is Action.UPDATE


def test_an_asked_for_snapshot_begins_a_new_epoch_and_drops_the_slot() -> None:
    plan = plan_for(APPLIED, resnapshot=True)
    assert plan.epoch == Epoch(3, "asked for", reset=True, barrier=True)
    assert actions(plan)["slot"] is Action.DELETE


def test_a_renewal_that_was_cut_off_is_finished_and_not_begun_again() -> None:
    half_done = replace(APPLIED, config=config(3))
    plan = plan_for(half_done)
    assert plan.epoch == Epoch(3, "an earlier apply was cut off", reset=False, barrier=True)
    assert actions(plan)["connector"] is Action.KEEP
    assert [step.what for step in plan.changes] == ["definition"]


def test_without_a_snapshot_no_barrier_ends_what_cannot_be_read_again() -> None:
    epoch = decide_epoch(replace(CHECKED.spec, snapshot=False), replace(APPLIED, slot=None))
    assert not epoch.barrier


def test_a_publication_with_other_tables_is_updated() -> None:
    (step,) = plan_for(replace(APPLIED, publication=frozenset({"public.articles"}))).changes
    assert (step.what, step.action) == ("publication", Action.UPDATE)


def test_removal_names_only_what_is_there() -> None:
    plan = removal_plan(CHECKED.spec, APPLIED)
    assert [step.what for step in plan.changes] == ["connector", "slot", "publication", "definition"]
    gone = Running(heartbeat=True, definition=replace(STORED, removed=True))
    assert removal_plan(CHECKED.spec, gone).changes == ()
