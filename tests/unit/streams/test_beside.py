"""Two generations in one batch: the joining one first, and only the live one's word counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from streams.core.outcomes import Done, Outcome, Rejected, Retry
from streams.ports import Inbound
from streams.steps.beside import BesideStep


@dataclass
class Scripted:
    """A step that gives outcomes by offset, and writes into a shared diary."""

    label: str
    diary: list[tuple[str, list[int]]]
    says: dict[int, Outcome] = field(default_factory=dict)
    name: str = "index"

    async def handle(self, batch: Sequence[Inbound]) -> list[Outcome]:
        self.diary.append((self.label, [record.offset for record in batch]))
        return [self.says.get(record.offset, Done(self.label)) for record in batch]

    async def failed(self, record: Inbound, outcome: Rejected) -> None:
        self.diary.append((f"{self.label} failed", [record.offset]))


def batch(*offsets: int) -> list[Inbound]:
    return [Inbound("documents", 0, offset, 0, b"k", b"v") for offset in offsets]


async def test_a_change_is_in_the_joining_generation_before_the_live_one_tells_of_it() -> None:
    diary: list[tuple[str, list[int]]] = []
    step = BesideStep(Scripted("live", diary), Scripted("joining", diary))

    assert await step.handle(batch(1, 2)) == [Done("live"), Done("live")]
    assert diary == [("joining", [1, 2]), ("live", [1, 2])]


async def test_what_joining_cannot_take_yet_is_kept_from_live_and_what_it_rejects_is_not() -> None:
    diary: list[tuple[str, list[int]]] = []
    joining = Scripted("joining", diary, {1: Retry("busy", 3.0), 2: Rejected("bad_vector", "")})
    step = BesideStep(Scripted("live", diary, {3: Rejected("undecodable", "")}), joining)

    outcomes = await step.handle(batch(1, 2, 3))

    assert outcomes == [Retry("busy", 3.0), Done("live"), Rejected("undecodable", "")]
    assert diary[1] == ("live", [2, 3])

    joining.says = dict.fromkeys((1, 2), Retry("busy"))
    assert await step.handle(batch(1, 2)) == [Retry("busy")] * 2
    assert diary[-1][0] == "joining", "live is not asked about nothing"


async def test_a_parked_change_is_told_once() -> None:
    diary: list[tuple[str, list[int]]] = []
    await BesideStep(Scripted("live", diary), Scripted("joining", diary)).failed(batch(1)[0], Rejected("r", "d"))

    assert diary == [("live failed", [1])]
