"""One child for each generation that is not live: started, started again, stopped, and its group forgotten."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field

from streams.rebuilding.side_workers import LONGEST_WAIT_S, STOP_S, SideWorkers


@dataclass
class Process:
    """A child as the test ends it."""

    name: str
    status: int | None = None
    stubborn: bool = False
    told: list[str] = field(default_factory=list)

    def poll(self) -> int | None:
        return self.status

    def terminate(self) -> None:
        self.told.append("terminate")
        if not self.stubborn:
            self.status = 0

    def kill(self) -> None:
        self.told.append("kill")
        self.status = -9

    def wait(self, timeout: float | None = None) -> int:
        if self.status is None:
            assert timeout == STOP_S
            raise subprocess.TimeoutExpired("it", timeout)
        return self.status


class World:
    """Time, and the children that were started."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.started: list[Process] = []
        self.forgotten: list[str] = []
        self.busy: set[str] = set()
        self.workers = SideWorkers(self.spawn, self.forget, monotonic=lambda: self.now, jitter=lambda: 1.0)

    def spawn(self, name: str) -> Process:
        self.started.append(Process(name))
        return self.started[-1]

    def forget(self, name: str) -> bool:
        self.forgotten.append(name)
        return name not in self.busy

    def names(self) -> list[str]:
        return [process.name for process in self.started]


def test_each_generation_beside_the_live_one_has_one_child() -> None:
    world = World()

    world.workers.look(["a", "b"], "live")
    world.workers.look(["a", "b"], "live")

    assert world.names() == ["a", "b"]


def test_a_child_that_dies_is_started_again_after_a_wait_that_grows_to_a_bound() -> None:
    world = World()
    waits = []
    for _ in range(9):
        world.workers.look(["a"], "live")
        world.started[-1].status = -9
        world.workers.look(["a"], "live")
        began, count = world.now, len(world.started)
        while len(world.started) == count:
            world.now += 0.5
            world.workers.look(["a"], "live")
        waits.append(world.now - began)

    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert max(waits) == LONGEST_WAIT_S

    world.now += 1000
    world.started[-1].status = 1
    world.workers.look(["a"], "live")
    world.now += 1.0
    count = len(world.started)
    world.workers.look(["a"], "live")
    assert len(world.started) == count + 1, "one that was well for long waits as little as the first time"


def test_the_child_of_a_generation_that_is_gone_is_stopped_and_killed_if_it_does_not_listen() -> None:
    world = World()
    world.workers.look(["a", "b"], "live")
    world.started[1].stubborn = True

    world.workers.look([], "live")

    assert [process.told for process in world.started] == [["terminate"], ["terminate", "kill"]]


def test_the_group_of_a_generation_that_went_live_is_forgotten_once_its_child_has_ended() -> None:
    world = World()
    world.workers.look(["a"], "live")
    world.forgotten.clear()
    world.busy.add("a")

    world.workers.look(["live"], "a")
    assert world.started[0].told == ["terminate"]
    world.workers.look(["live"], "a")
    world.busy.clear()
    world.workers.look(["live"], "a")
    world.workers.look(["live"], "a")

    assert world.forgotten == ["a", "a", "a"], "asked until it was done, and not again"
    assert world.names() == ["a", "live"]


def test_stopping_ends_all_children() -> None:
    world = World()
    world.workers.look(["a", "b"], "live")

    world.workers.stop()

    assert [process.told for process in world.started] == [["terminate"], ["terminate"]]


def test_the_process_that_keeps_them_loads_neither_faust_nor_a_model() -> None:
    code = (
        "import sys; import streams.commands, streams.rebuilding.side_workers, streams.generations, "
        "streams.adapters.probe, runtime.weaviate, runtime.topics; "
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    loaded = set(told.stdout.split())
    assert "weaviate" in loaded
    assert loaded.isdisjoint({"faust", "mode", "aiokafka", "onnxruntime", "unstructured", "spacy"})
