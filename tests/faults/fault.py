"""What a fault is, what one injection of it tells, and what a run of it found: the words of the fault matrix.

Before this: nothing. After this: `matrix.py` lists the faults, `driver.py` runs them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.world import World


@dataclass(frozen=True)
class Bite:
    """Proof that a fault did bite.

    times: how often. how: what was seen, for the table. parked: records of which each must be dead-lettered exactly
    once, by position (`topic/partition@offset`), and nothing else may be. positions: further accepted inputs that must
    end. texts: what the index must hold besides, document id to text, of the world's knowledge base. special: the
    fault's own oracle, asked at rest; what it says is a finding.
    """

    times: int
    how: str
    parked: Sequence[str] = ()
    positions: Sequence[str] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    special: Callable[[], list[str]] = list


@dataclass(frozen=True)
class Fault:
    """One row of the matrix.

    inject: do it, wait until it is over, and tell; it raises AssertionError if it did not bite. What must be undone
    whatever happens it hands to `World.healing`. tier 1 is part of `make test`. rest_s: how long after its end the
    product may take to come to rest by itself. pace_s: between two changes of the load.
    """

    number: int
    name: str
    inject: Callable[[World, random.Random], Bite]
    tier: int = 1
    rest_s: float = 90.0
    pace_s: float = 0.06


@dataclass
class Row:
    """What a run of a fault found. findings empty: the product survived it."""

    number: int
    name: str
    seed: int
    bites: int = 0
    how: str = ""
    changes: int = 0
    lost: int = 0
    duplicated: int = 0
    stale: int = 0
    recovery_s: float = 0.0
    took_s: float = 0.0
    answers: int = 0
    refused: int = 0
    ended_by_itself: dict[str, int] = field(default_factory=dict)
    log: str = ""
    findings: list[str] = field(default_factory=list)

    def line(self) -> str:
        """As a row of the printed table."""
        own = ", ".join(f"{name} {count}x" for name, count in self.ended_by_itself.items()) or "-"
        return (
            f"| {self.number} | {self.name} | {self.bites} | {self.changes} | {self.lost} | {self.duplicated} | "
            f"{self.stale} | {self.recovery_s:.1f} | {self.took_s:.0f} | {self.answers} ({self.refused}) | {own} | "
            f"{'ok' if not self.findings else f'{len(self.findings)} findings'} |"
        )

    def story(self) -> str:
        """Findings, and the ends of the logs of what ended by itself; empty if there is nothing to tell."""
        return "\n".join(f"    {line}" for part in (*self.findings, self.log) for line in part.splitlines())


HEADER = (
    "| # | fault | bites | changes | lost | duplicated | stale | recovery s | took s | answers (refused) "
    "| ended by itself | result |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)
