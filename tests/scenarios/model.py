"""A scenario as its YAML file tells it: a source, SQL, and what must hold after each step. Unknown fields are refused.

Before this: the files beside it. After this: `test_scenarios.py` plays them on the real servers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Find(_Part):
    """A search whose hits must contain the document with this key; text: what one of its hits must say."""

    query: str
    key: str
    mode: Literal["keyword", "hybrid", "vector"] = "keyword"
    text: str | None = None


class Checks(_Part):
    """What must hold. exist and gone are keys; misses are keyword searches that must find nothing."""

    finds: list[Find] = []
    misses: list[str] = []
    exist: list[str] = []
    gone: list[str] = []


class Step(Checks):
    """SQL and what comes of it.

    do: each is one transaction; `{table}` is the table, `{tag}` a word that no other run has. changes: how many changes
    the connector must make of it. embedded: texts sent to the model. outcomes: how the changes end, by the stage of the
    last receipt. records_hold: a text that must be in what the connector wrote, which proves that the case did arise.
    """

    do: list[str] = Field(min_length=1)
    changes: int = Field(ge=0)
    embedded: int | None = None
    outcomes: dict[str, int] | None = None
    records_hold: str | None = None


class Snapshot(Checks):
    """What the source's snapshot brings: rows that `before` put there."""

    changes: int = Field(ge=0)
    embedded: int | None = None


class Scenario(_Part):
    """One file. table: the statement that makes the table. source: fields of the source's YAML besides its names."""

    name: str
    about: str
    table: str
    identity: Literal["default", "full"] = "default"
    source: dict[str, Any]
    before: list[str] = []
    snapshot: Snapshot = Snapshot(changes=0)
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
