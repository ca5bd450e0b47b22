"""Several writers side by side, stepped one store call at a time in a drawn order: at rest the index is the model.

The two lanes of the index stage are such writers: each gets a part of the changes, in order, and neither waits for the
other, so an older version may be planned, written or cleaned up before, after or amid a newer one.
"""

from __future__ import annotations

import random
import threading

from hypothesis import HealthCheck, given, settings

from schemas.records import DocumentChange, Operation
from streams.core.outcomes import Done
from tests.property.test_index_machine import WORDS, histories, inbound, make_change, make_step, model
from tests.support.fake_index import FakeIndex
from tests.support.oracle import differences, scan_fake


class Died(BaseException):
    """The writer's process ended before the call."""


class Writer:
    """Hands batches to a step in a thread of its own, which stops before each call of the store until let go."""

    def __init__(self, index: FakeIndex, batches: list[list[DocumentChange]]) -> None:
        self._index = index
        self._batches = batches
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.ended = self._dies = False
        self.call = ""
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.outcomes: list[object] = []
        self.thread.start()
        self._stopped.acquire(timeout=10)

    def pause(self, call: str = "") -> None:
        self.call = call
        self._stopped.release()
        assert self._go.acquire(timeout=10)
        if self._dies:
            raise Died

    def step(self) -> None:
        """Let it go until its next call of the store, or its end."""
        self._go.release()
        assert self._stopped.acquire(timeout=10)

    def until(self, call: str) -> None:
        """Let it go until it is about to make this call."""
        while self.call != call and not self.ended:
            self.step()
        assert not self.ended

    def finish(self) -> None:
        """Let it go to its end."""
        while not self.ended:
            self.step()

    def die(self) -> None:
        """It does not make the call that it is about to make, nor any other."""
        self._dies = True
        self.step()

    def _run(self) -> None:
        try:
            self.pause()
            for batch in self._batches:
                self.outcomes += make_step(self._index).handle_now([inbound(change) for change in batch])
        except Died:
            pass
        self.ended = True
        self._stopped.release()


def write_side_by_side(parts: list[list[list[DocumentChange]]], rng: random.Random) -> FakeIndex:
    """Each part is one writer's batches; which writer makes the next call is drawn."""
    index = FakeIndex()
    writers = [Writer(index, batches) for batches in parts]
    by_thread = {writer.thread: writer for writer in writers}
    index.before_call = lambda _: by_thread[threading.current_thread()].pause()
    while running := [writer for writer in writers if not writer.ended]:
        # In stretches: what goes wrong needs one of them to come far while another waits.
        writer = rng.choice(running)
        for _ in range(rng.choice([1, 1, 2, 3, 6])):
            if not writer.ended:
                writer.step()
    index.before_call = lambda _: None
    assert all(isinstance(outcome, Done) for writer in writers for outcome in writer.outcomes)
    assert all(not writer.thread.is_alive() or writer.ended for writer in writers)
    return index


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_lanes_side_by_side_leave_what_the_newest_says(drawn: tuple[list[DocumentChange], int]) -> None:
    """Each change goes to one of two lanes, whichever, and each lane takes its own in order, in batches."""
    changes, seed = drawn
    rng = random.Random(seed)
    lanes: list[list[DocumentChange]] = [[], []]
    for change in changes:
        lanes[rng.randrange(2)].append(change)
    parts = []
    for lane in lanes:
        size = rng.randint(1, 4)
        parts.append([lane[at : at + size] for at in range(0, len(lane), size)])

    index = write_side_by_side(parts, rng)

    assert differences(scan_fake(index), model(changes)) == []


def test_a_chunk_that_an_older_version_dropped_while_a_newer_was_planned_stays_in_the_newer() -> None:
    """All orders of two lanes over one document: it has a chunk, loses it in one lane, and has it in the other."""
    first, without, again = WORDS[0] + "\n\n" + WORDS[1], WORDS[2], WORDS[0]
    changes = [make_change("a", 1, first), make_change("a", 2, without), make_change("a", 3, again)]
    found = []
    for seed in range(300):
        index = write_side_by_side([[[changes[0]], [changes[1]]], [[changes[2]]]], random.Random(seed))
        found += differences(scan_fake(index), model(changes))

    assert found == []


def test_a_barrier_that_overtakes_older_changes_of_the_bulk_lane_ends_them() -> None:
    """Indexed before it, or planned only after it: in any order of the two lanes none stays, and a newer one does."""
    old = [make_change(name, lsn, WORDS[lsn]) for lsn, name in enumerate(("a", "b", "c"), start=1)]
    barrier = make_change("source:s", 4, None, operation=Operation.BARRIER)
    newer = make_change("a", 5, WORDS[1])
    found = []
    for seed in range(200):
        index = write_side_by_side([[old[:1], old[1:]], [[barrier], [newer]]], random.Random(seed))
        found += differences(scan_fake(index), {newer.key: WORDS[1]})

    assert found == []


def test_a_writer_that_dies_after_it_retired_what_a_newer_version_lists_makes_it_good_when_it_comes_again() -> None:
    """It looked, was overtaken by a version planned on the same state, marked, and died before its second look."""
    index = FakeIndex()
    texts = f"{WORDS[0]}\n\n{WORDS[1]}", WORDS[2], WORDS[0]
    changes = [make_change("a", version, text) for version, text in enumerate(texts, 1)]
    make_step(index).handle_now([inbound(changes[0])])
    late, new = Writer(index, [[changes[1]]]), Writer(index, [[changes[2]]])
    by_thread = {writer.thread: writer for writer in (late, new)}

    def pause(call: str) -> None:
        by_thread[threading.current_thread()].pause(call)

    index.before_call = pause
    new.until("write_manifests")
    late.until("retire")
    new.finish()
    late.step()
    late.die()
    index.before_call = lambda _: None
    assert differences(scan_fake(index), model(changes)) != []

    make_step(index).handle_now([inbound(changes[1])])

    assert differences(scan_fake(index), model(changes)) == []
