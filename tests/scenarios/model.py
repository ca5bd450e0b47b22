"""A scenario as its YAML file tells it: a source, SQL, and what must hold after each step. Unknown fields are refused.

Before this: the files beside it. After this: `test_scenarios.py` plays them on the real servers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Find(_Part):
    """A search whose hits must contain the document with this key; text: what one of its hits must say."""

    query: str
    key: str
    mode: Literal["keyword", "hybrid", "vector"] = "keyword"
    text: str | None = None


class Checks(_Part):
    """What must hold. exist and gone are keys; misses are keyword searches that must find nothing; chunks by key."""

    finds: list[Find] = []
    misses: list[str] = []
    exist: list[str] = []
    gone: list[str] = []
    chunks: dict[str, int] = {}


class Act(_Part):
    """Something done to the source that is no SQL; what each is, `acts.py` says.

    Of apply: epoch, which the source must be in afterwards; renewal, words of the reason why it begins; resnapshot; and
    source, fields of its file that are now others (null: left out). says: words that a refusal must hold.
    """

    act: Literal[
        "apply",
        "refused",
        "drop_slot",
        "create_slot",
        "outrun_slot",
        "stop_connector",
        "resume_connector",
        "await_failed",
        "replay_shuffled",
        "send_tombstones",
        "hold_capture",
        "release_capture",
    ]
    epoch: int | None = None
    renewal: str | None = None
    resnapshot: bool = False
    source: dict[str, Any] = {}
    says: list[str] = []


class Last(_Part):
    """Where the number of changes is not known: the last of them hold this text, and there are so many of those.

    They must be enough (40) to lie in every partition; then all that came before them has been seen, too.
    """

    text: str
    count: int = Field(ge=40)


class Step(Checks):
    """SQL and acts, and what comes of them.

    do: each SQL is one transaction; `{table}` is the table, `{tag}` a word that no other run has. changes: how many
    changes the connector must make of it, or instead `last`. embedded: texts sent to the model. outcomes: how the
    changes end, by the stage of the last receipt. dead_letters: how many end there instead, by reason.
    records_hold: a text that must be in what the connector wrote, and same_row: operations by which one and the same
    row must have come, in this order. Both prove that the case did arise.
    """

    do: list[str | Act] = Field(min_length=1)
    changes: int | None = Field(default=None, ge=0)
    last: Last | None = None
    embedded: int | None = None
    outcomes: dict[str, int] | None = None
    dead_letters: dict[str, int] = {}
    records_hold: str | None = None
    same_row: list[Literal["c", "u", "d", "r"]] = []

    @model_validator(mode="after")
    def _one_end(self) -> Step:
        if (self.changes is None) == (self.last is None):
            raise ValueError("a step says how many changes come of it, or which are the last")
        return self


class Snapshot(Checks):
    """What the source's snapshot brings: rows that `before` put there.

    changes: null where others write meanwhile; then the first step waits for all. meanwhile: SQL that is done in a
    circle while the snapshot is taken, `{n}` being the number of the round.
    """

    changes: int | None = Field(default=0, ge=0)
    embedded: int | None = None
    meanwhile: list[str] = []


class Refusal(_Part):
    """That `plan` and `apply` refuse the table as it is: their words, and SQL among them that mends it."""

    says: list[str] = Field(min_length=1)
    fix: list[str] = Field(min_length=1)


class Scenario(_Part):
    """One file. table: the statement that makes the table. source: fields of the source's YAML besides its names."""

    name: str
    about: str
    table: str
    identity: Literal["default", "full"] = "default"
    source: dict[str, Any]
    before: list[str] = []
    refusal: Refusal | None = None
    snapshot: Snapshot = Snapshot()
    steps: list[Step] = []


def load_scenarios(folder: Path) -> list[Scenario]:
    """Every scenario of the folder, by name. Raises ValueError if there is none, or one is not named as its file."""
    found = []
    for file in sorted(folder.glob("*.yaml")):
        scenario = Scenario.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        if scenario.name != file.stem:
            raise ValueError(f"{file}: the scenario calls itself {scenario.name!r}")
        if not scenario.steps and not scenario.before:
            raise ValueError(f"{file}: nothing is done")
        found.append(scenario)
    if not found:
        raise ValueError(f"{folder}: no scenario")
    return found
