"""A simulated worker process: the real `Loop` and step over ports that stop, fail, lose answers or die on command.

Before this: `broker.py`, `store.py`. After this: `world.py` runs several of them, a few points at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from streams.adapters.runner import Loop
from streams.ports import Inbound
from tests.simulation.broker import Broker, Place
from tests.simulation.fibers import Died, Fiber

FaultKind = Literal["dies", "fails", "surprises"]


@dataclass
class Fault:
    """What happens at the so-manieth point from now. fails: the port's own error, so often in a row."""

    kind: FaultKind
    after: int
    times: int = 1


class Surprise(Exception):
    """An error that nobody foresaw, as a defect of a library would raise it."""


@dataclass
class Group:
    """A consumer group: who reads which partition. A member that is expelled goes on with what it holds, unheard.

    takes: of the records it reads, those that it handles; the others it acknowledges only.
    """

    name: str
    topics: list[str]
    takes: Callable[[Inbound], bool] = lambda _: True
    members: list[Process] = field(default_factory=list)

    def rebalance(self, broker: Broker, *, without: Process | None = None) -> None:
        """Deal the partitions out anew; each new owner goes on from the committed offset."""
        for member in self.members:
            member.expelled = member is without or not member.alive
        present = [member for member in self.members if not member.expelled]
        dealt: dict[int, list[Place]] = {id(member): [] for member in self.members}
        for at, place in enumerate(broker.places(self.topics)):
            if present:
                dealt[id(present[at % len(present)])].append(place)
        for member in self.members:
            member.doubted |= member.expelled or bool(member.positions.keys() - set(dealt[id(member)]))
            kept = {place: member.positions[place] for place in dealt[id(member)] if place in member.positions}
            member.positions = {
                place: kept.get(place, broker.committed.get((self.name, place), 0)) for place in dealt[id(member)]
            }


@dataclass(eq=False)
class Process:
    """One worker. steps: points it may still pass before it is stopped; until: a call before which it is stopped
    anyway. idle: it waits for records.

    doubted: since it took its batch it was taken for dead, or lost a partition; what it holds may be another's by now,
    done and acknowledged. wrote: ids of the objects that it has written of it.
    """

    name: str
    group: Group
    broker: Broker
    batch: int
    now_ms: Callable[[], int]
    make: Callable[[Process], Loop]
    ended: Callable[[Process], None]
    positions: dict[Place, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    alive: bool = True
    expelled: bool = False
    killed: bool = False
    idle: bool = True
    wake_ms: int = 0
    steps: int = 0
    until: str = ""
    turn: int = 0
    doubted: bool = False
    wrote: set[str] = field(default_factory=set)
    _fiber: Fiber | None = None

    def run(self, steps: int) -> None:
        """Go on for so many points, until there is nothing to do, or until death."""
        self.steps = steps
        if self._fiber is None:
            self._fiber = Fiber.take(self._live)
        try:
            paused = self._fiber.resume()
        except BaseException:
            self._fiber, self.alive = None, False
            raise
        if not paused:
            self._fiber, self.alive = None, False
            self.ended(self)

    def kill(self) -> None:
        """`kill -9`, wherever it stands."""
        self.killed = True
        if self._fiber is not None:
            self.run(1)
        elif self.alive:
            self.alive = False
            self.ended(self)

    @property
    def work(self) -> bool:
        """It is in a batch, or there is something to take."""
        if not self.idle:
            return True
        return any(position < self.broker.end(place) for place, position in self.positions.items())

    def point(self, failure: Callable[[], Exception]) -> None:
        """As Points.point."""
        self._breathe()
        for fault in self.faults:
            fault.after -= 1
            if fault.after > 0:
                continue
            fault.times -= 1
            if fault.times <= 0:
                self.faults.remove(fault)
            if fault.kind == "dies":
                raise Died
            raise failure() if fault.kind == "fails" else Surprise("the unforeseen")

    def calls(self, name: str, failure: Callable[[], Exception]) -> None:
        """As point, before a call of this name."""
        if name == self.until:
            self.steps = 0
        self.point(failure)

    async def sleep(self, seconds: float) -> None:
        """As asyncio.sleep, by the world's clock."""
        self.wake_ms = self.now_ms() + max(1, round(seconds * 1000))
        while self.now_ms() < self.wake_ms:
            self.steps = 0
            self._breathe()

    def abort(self, why: str) -> None:
        """As the loop's abort."""
        raise Died(why)

    def _breathe(self) -> None:
        assert self._fiber is not None
        if self.killed:
            raise Died
        self.steps -= 1
        if self.steps < 0:
            self._fiber.pause()
            if self.killed:
                raise Died

    def _live(self) -> None:
        loop = self.make(self)
        assert self._fiber is not None
        while True:
            batch = self._take()
            if not batch:
                self.idle, self.steps = True, 0
                self._breathe()
                continue
            self.idle, self.doubted = False, self.expelled
            self.wrote.clear()
            try:
                self._fiber.run(loop.settle([record for record in batch if self.group.takes(record)]))
            except Exception as error:
                raise Died from error  # as the reader does: nothing may leave its body
            self._breathe()
            for record in batch:
                self._acknowledge(record)

    def _take(self) -> list[Inbound]:
        """Records of its partitions, in order within each, the partitions in turns."""
        places = list(self.positions)
        self.turn += 1
        batch: list[Inbound] = []
        for at in range(len(places)):
            place = places[(at + self.turn) % len(places)]
            log, position = self.broker.logs.get(place, []), self.positions[place]
            part = log[position : position + self.batch - len(batch)]
            self.positions[place] = position + len(part)
            batch += part
        return batch

    def _acknowledge(self, record: Inbound) -> None:
        """As Faust: what the broker hears of a member that it expelled counts for nothing; of a member it counts,
        also for a partition that has meanwhile been given to another.
        """
        if not self.expelled:
            place = (record.topic, record.partition)
            self.broker.committed[self.group.name, place] = record.offset + 1
