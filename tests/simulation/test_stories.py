"""Stories of writers amid each other's steps, told by the calls that they are about to make.

Before this: `world.py`. Each is the one situation that a line of the commit is there for, and that some thousand drawn
histories may miss. Told by calls and not by counted points, a story stays itself when the code between them changes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.histories import quiet
from tests.simulation.process import Fault
from tests.simulation.world import Shape, World, bulk

CAPTURE = 0
KEPT, OTHER, MORE, LAST = "alpha beta gamma.", "delta epsilon.", "kappa lambda.", "mu nu xi."


class Story:
    """A world of one partition. Writers go on for as long as they are told to; the judge watches."""

    def __init__(self, *, index: int, lanes: bool = False) -> None:
        quiet()
        self.world = World(
            Shape(1, {"capture": 1, "parse": 1, "index": index, "bulk": int(lanes)}, batch=8, slice_texts=256)
        )

    def version(self, *texts: str, lane: str = "live") -> None:
        """A version of the document, captured into a lane; a record's lane follows from when it was written."""
        self.world.publish("t", "a", "\n\n".join(texts))
        self.captured(lane)

    def captured(self, lane: str) -> None:
        """What a source just told lies in `documents`."""
        while bulk(0, self.world.broker.end(("documents", 0)), self.world.ms) != (lane == "bulk"):
            self.world.wait(1)
        self.world.run(CAPTURE, 1_000)

    def goes(self, writer: int, *, until: str = "") -> None:
        """It goes on to the end of what there is, or is stopped before it makes this call."""
        self.world.run(writer, 10_000, until)

    def row(self, *texts: str) -> None:
        """A row of a table, captured into the live lane."""
        self.world.tables["cards"].put("0", {"body": "\n\n".join(texts)})
        self.world.tables["cards"].send(2)
        self.captured("live")


@pytest.fixture
def story(request: pytest.FixtureRequest) -> Iterator[Story]:
    told = Story(**request.param)
    yield told
    told.world.close()


def of(*, index: int, lanes: bool = False) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("story", [{"index": index, "lanes": lanes}], indirect=True)


@of(index=1, lanes=True)
def test_a_version_that_rests_on_one_whose_writer_died_amid_its_marks_is_shown_whole(story: Story) -> None:
    """The dead one retired what a newer version lists, and its version comes again together with a newer one still."""
    live, load = 2, 3
    story.version(KEPT, OTHER)
    story.goes(live)
    story.goes(load)
    story.version(OTHER)
    story.version(KEPT, OTHER, MORE, lane="bulk")
    story.goes(load, until="write_manifests")
    story.goes(live, until="retire")
    story.goes(load)
    story.world.fault(live, Fault("dies", after=2))
    story.goes(live)
    assert story.world.counts["deaths"] == 1
    story.version(KEPT, OTHER, LAST)

    story.world.finish()

    assert story.world.judge.holes, "nobody retired what a newer version lists"


@of(index=1, lanes=True)
def test_who_retires_what_a_newer_version_lists_looks_once_more_and_takes_it_back(story: Story) -> None:
    """Both were planned on one state; the newer one's writer had looked, and was through, before the mark was set."""
    live, load = 2, 3
    story.version(KEPT, OTHER)
    story.goes(live)
    story.goes(load)
    story.version(OTHER)
    story.version(KEPT, OTHER, MORE, lane="bulk")
    story.goes(load, until="write_manifests")
    story.goes(live, until="retire")
    story.goes(load)
    story.goes(live)

    story.world.finish()

    assert story.world.judge.holes, "nobody retired what a newer version lists"


@of(index=2)
def test_what_a_slower_writer_of_a_version_writes_again_after_it_was_retired_goes(story: Story) -> None:
    """A newer version was just retiring it, and had ended its manifest, before the slower one looked."""
    slow, fast = 2, 3
    story.version(KEPT)
    story.goes(slow, until="write_chunks")
    story.world.expel(slow)
    story.goes(fast)
    story.version(OTHER)
    story.goes(fast, until="retire")
    story.world.run(fast, 0)
    story.goes(slow, until="manifests")
    story.goes(fast)
    story.goes(slow)

    story.world.finish()


@of(index=2, lanes=True)
def test_what_the_end_of_a_source_retired_of_an_older_version_comes_back_with_the_newer_one(story: Story) -> None:
    """A writer of both, to which the older one's objects are good, sees neither its manifest nor what ended it."""
    slow, fast, load = 2, 3, 4
    story.row(KEPT)
    story.goes(slow, until="write_chunks")
    story.world.expel(slow)
    story.world.tables["cards"].truncate()
    story.world.tables["cards"].send(2)
    story.captured("bulk")
    story.row(KEPT, OTHER)
    story.goes(fast, until="write_manifests")
    story.goes(slow)
    story.goes(load)
    story.goes(fast)

    story.world.finish()


@of(index=1, lanes=True)
def test_what_the_end_of_a_source_retired_while_a_newer_version_was_planned_on_it_comes_back(story: Story) -> None:
    """The version that the plan rests on is ended in the other lane, between the plan and the write."""
    live, load = 2, 3
    story.row(KEPT)
    story.goes(live)
    story.goes(load)
    story.world.tables["cards"].truncate()
    story.world.tables["cards"].send(2)
    story.captured("bulk")
    story.row(KEPT, OTHER)
    story.goes(live, until="write_manifests")
    story.goes(load)
    story.goes(live)

    story.world.finish()


@of(index=2)
def test_a_late_writer_of_a_skipped_version_retires_nothing_that_the_newest_lists(story: Story) -> None:
    """The skipped version dropped a chunk that the newest has again: as an object of its own."""
    slow, fast = 2, 3
    story.version(KEPT, OTHER)
    story.goes(slow)
    story.version(OTHER)
    story.goes(slow, until="write_manifests")
    story.world.expel(slow)
    story.version(KEPT, OTHER, MORE)
    story.goes(fast, until="write_manifests")
    story.goes(slow, until="retire")
    story.goes(fast)
    story.goes(slow)

    story.world.finish()


@of(index=2)
def test_what_came_back_is_not_retired_by_a_late_writer_that_saw_it_leave(story: Story) -> None:
    """It was stopped just before its marks, and wakes up when the newer version is there and acknowledged."""
    slow, fast = 2, 3
    story.version(KEPT, OTHER)
    story.goes(slow)
    story.version(OTHER)
    story.goes(slow, until="retire")
    story.world.expel(slow)
    story.version(KEPT, OTHER)
    story.goes(fast)
    story.goes(slow)

    story.world.finish()


@of(index=2)
def test_what_a_writer_wrote_that_was_taken_for_dead_and_then_died_is_swept(story: Story) -> None:
    """Its version was skipped, done and acknowledged by then: nobody who follows it looks for its objects."""
    slow, fast = 2, 3
    story.version(KEPT)
    story.goes(slow, until="write_chunks")
    story.world.expel(slow)
    story.version(OTHER)
    story.goes(fast)
    story.world.fault(slow, Fault("dies", after=2))
    story.goes(slow)

    assert story.world.counts["deaths"] == 1
    story.world.finish()
    assert story.world.counts["swept"] == 1
