"""The watchdog ends a worker that is stuck, and no other."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from streams.adapters.watchdog import Watchdog


@dataclass
class World:
    """What the watchdog sees, moved by hand."""

    now: float = 0.0
    committed: int | None = 5
    records: int = 3
    work: float = 0.0
    waiting: bool = False
    joined: bool = True
    aborted: list[str] = field(default_factory=list)

    def watchdog(self) -> Watchdog:
        return Watchdog(
            joined=lambda: self.joined,
            pending=lambda: {("documents", 0): (self.committed, self.records)},
            work=lambda: self.work,
            waiting=lambda: self.waiting,
            abort=self.aborted.append,
            limit_s=60,
            monotonic=lambda: self.now,
        )


def test_a_worker_that_is_stuck_is_ended() -> None:
    """Records wait, and neither the committed offset nor the counters have moved for the limit."""
    world = World()
    watchdog = world.watchdog()
    for world.now in (0, 30, 60, 61):
        watchdog.look()
    assert len(world.aborted) == 1


@pytest.mark.parametrize("alive", ["commits", "works", "waits", "idle"])
def test_a_worker_that_moves_waits_or_has_nothing_to_do_is_left_alone(alive: str) -> None:
    """For ever."""
    world = World(waiting=alive == "waits", records=0 if alive == "idle" else 3)
    watchdog = world.watchdog()
    for step in range(20):
        world.now = step * 50.0
        world.committed = step if alive == "commits" else 5
        world.work = step if alive == "works" else 0
        watchdog.look()
    assert world.aborted == []


def test_a_worker_that_never_joins_its_group_is_ended() -> None:
    """A join that hangs is not waited for until the end of days; one that takes a while is."""
    world = World(joined=False, records=0)
    watchdog = world.watchdog()
    for world.now in (0, 30, 60):
        watchdog.look()
    assert world.aborted == []
    world.now = 75
    watchdog.look()
    assert len(world.aborted) == 1
