"""Faults of the stages' workers: killed, ended in the middle, standing still for longer than their session, too many.

Before this: `world.py`. After this: `matrix.py`.
"""

from __future__ import annotations

import random
import signal
import time
from functools import partial

from streams.pipeline import STAGES
from tests.faults.fault import Bite
from tests.faults.processes import FurtherWorker, assignment, further_worker
from tests.faults.world import World
from tests.support.client import eventually
from tests.support.counted import SESSION_S

GROUP = "thalweg-index"
FAILPOINTS = ("before_chunks", "after_chunks", "after_manifests", "after_retire", "after_receipts")
JOIN_S = 90.0


def kill_workers(world: World, rng: random.Random, *, times: int, stages: tuple[str, ...]) -> Bite:
    """kill -9 of one of these stages' workers, each time after it has acknowledged something, at a random moment."""
    killed = []
    for _ in range(times):
        name = rng.choice(stages)
        world.processes.live(name)
        world.progress("index" if name == "parse" else name)
        time.sleep(rng.uniform(0.0, 0.6))
        world.processes.kill(name)
        killed.append(name)
    return Bite(len(killed), f"killed: {', '.join(killed)}")


def killed_three_times(world: World, rng: random.Random) -> Bite:
    """F1: the index worker twice, any worker once."""
    first = kill_workers(world, rng, times=2, stages=("index",))
    second = kill_workers(world, rng, times=1, stages=tuple(stage.name for stage in STAGES))
    return Bite(first.times + second.times, f"{first.how}; {second.how}")


def killed_often(world: World, rng: random.Random) -> Bite:
    """F1 at length: any worker, eight times."""
    return kill_workers(world, rng, times=8, stages=tuple(stage.name for stage in STAGES))


def terminated(world: World, rng: random.Random) -> Bite:
    """F4: SIGTERM in the middle of the work, three times; each time it ends within 30 s."""
    took = []
    for _ in range(3):
        world.progress()
        time.sleep(rng.uniform(0.0, 0.5))
        began = time.monotonic()
        world.processes.kill("index", signal.SIGTERM)
        took.append(time.monotonic() - began)
        assert took[-1] < 30, f"it took {took[-1]:.0f} s to end"
    return Bite(len(took), "ended within " + ", ".join(f"{seconds:.1f} s" for seconds in took))


def standing_still(world: World, rng: random.Random) -> Bite:
    """F5: a worker stands still beyond its session, another takes its partitions over, then the first wakes up."""
    with further_worker(world.counted.stack, world.counted.environment, "index", "index-beside") as beside:
        both = joined(world, beside, 2)
        (first,) = both - {beside.name}
        had = assignment(world.bootstrap, GROUP)[first]
        pid = world.processes.stop("index")
        world.healing.callback(world.processes.go_on, pid)
        stopped = time.monotonic()
        eventually(lambda: assignment(world.bootstrap, GROUP).get(beside.name, set()) >= had, SESSION_S + 60)
        world.progress()
        left = stopped + SESSION_S + 4 + rng.uniform(0, 3) - time.monotonic()
        time.sleep(max(0.0, left))
        world.processes.go_on(pid)
        slept = time.monotonic() - stopped
        eventually(lambda: bool(assignment(world.bootstrap, GROUP).get(first)), 60)
        world.progress()
    return Bite(1, f"stood still for {slept:.0f} s; its {len(had)} partitions went to another worker meanwhile")


def joined(world: World, worker: FurtherWorker, members: int) -> set[str]:
    """The group's members once the worker has partitions and there are so many. Fails if it has ended."""

    def look() -> set[str]:
        assert worker.process.poll() is None, f"{worker.name} ended:\n{worker.log()}"
        found = assignment(world.bootstrap, GROUP)
        assert found.get(worker.name), f"{worker.name} has no partitions: {found}"
        assert sum(bool(places) for places in found.values()) == members, f"not {members} members: {found}"
        return set(found)

    return eventually(look, JOIN_S, every_s=0.3)


def scaled(world: World, rng: random.Random) -> Bite:
    """F7: one worker, two, three, one again, under load."""
    environment, stack = world.counted.environment, world.counted.stack
    with (
        further_worker(stack, environment, "index", "index-two") as two,
        further_worker(stack, environment, "index", "index-three") as three,
    ):
        shares = sorted(len(places) for places in assignment_of(world, two, three).values())
        world.progress()
        time.sleep(rng.uniform(0.5, 2))
        two.end()
        world.progress()
        three.end(signal.SIGKILL)
        eventually(lambda: len(assignment(world.bootstrap, GROUP)) == 1, 60)
        world.progress()
    return Bite(4, f"three workers had {shares} partitions; one ended, one killed")


def assignment_of(world: World, *workers: FurtherWorker) -> dict[str, set[tuple[str, int]]]:
    """The group's partitions once the supervised worker and all of these have some."""
    for worker in workers:
        joined(world, worker, len(workers) + 1)
    return assignment(world.bootstrap, GROUP)


def storm(world: World, rng: random.Random) -> Bite:
    """F8: for 40 s workers come and go, gently or not, as fast as they can start."""
    until, ends = time.monotonic() + 40, 0
    while time.monotonic() < until or ends < 4:
        with further_worker(world.counted.stack, world.counted.environment, "index", f"index-storm-{ends}") as worker:
            eventually(partial(_is_member, world, worker), JOIN_S)
            time.sleep(rng.uniform(0, 1.5))
            worker.end(rng.choice((signal.SIGTERM, signal.SIGKILL)))
            ends += 1
    return Bite(ends, f"{ends} workers came and went")


def failpoints(world: World, rng: random.Random) -> Bite:
    """F2 and F3: another worker dies after each step of the commit, at its third batch; the supervised one goes on."""
    died = []
    for point in rng.sample(FAILPOINTS, len(FAILPOINTS)):
        variables = {"THALWEG_TEST_FAILPOINT": f"{point}:3"}
        name = f"index-{point.replace('_', '-')}"
        with further_worker(world.counted.stack, world.counted.environment, "index", name, **variables) as worker:
            status = worker.process.wait(JOIN_S)
            assert status == 137, f"it did not die at {point}: {status}\n{worker.log()}"
            died.append(point)
        # Its place is kept for the rest of its session; only then do its partitions go on.
        eventually(partial(_has_left, world, name), SESSION_S + 60)
    return Bite(len(died), f"died at {', '.join(died)}")


def _is_member(world: World, worker: FurtherWorker) -> bool:
    assert worker.process.poll() is None, f"{worker.name} ended:\n{worker.log()}"
    return worker.name in world.product.topics.members(GROUP)


def _has_left(world: World, name: str) -> bool:
    return name not in world.product.topics.members(GROUP)
