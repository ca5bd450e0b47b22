"""The bench's own arithmetic, on histories small enough to count by hand."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tests.bench.edits.archives import Release, pinned
from tests.bench.edits.bound import NeverSeen, chunks_by_bytes, chunks_by_runs
from tests.bench.edits.history import Revision, documents, is_document, revisions
from tests.bench.edits.measure import BY_BYTES, BY_RUNS, OURS, WHOLE, Cost, _Own
from tests.bench.edits.ours import Ours, cut


def release(project: str, version: str) -> Release:
    return Release(project, version, f"{project}-{version}.tar.gz", "")


def test_a_run_of_new_paragraphs_ends_at_one_seen_before() -> None:
    """Old paragraphs cut runs, wherever they were seen; blank lines with spaces in them separate as well."""
    seen = NeverSeen()

    assert seen.runs("one\n\ntwo\n \nthree\n") == ["one\n\ntwo\n \nthree"]
    assert seen.runs("zero\n\ntwo\n\nfour\n\nfive\n\none") == ["zero", "four\n\nfive"]
    assert seen.runs("five\n\ntwo") == []
    assert seen.runs("six\n\nsix\n\nseven") == ["six", "seven"]


def test_each_run_is_rounded_up_and_so_is_the_sum() -> None:
    """Runs of 10, 25 and 1 bytes in chunks of 10: 1 + 3 + 1 by runs, 4 by bytes."""
    assert chunks_by_runs([10, 25, 1], 10.0) == 5
    assert chunks_by_bytes([10, 25, 1], 10.0) == 4
    assert chunks_by_bytes([], 10.0) == 0


def test_a_release_revises_what_it_changed_and_nothing_else() -> None:
    """New, edited and removed documents; the next project begins from nothing."""
    history = [
        (release("p", "1"), {"docs/a.rst": "A", "docs/b.rst": "B"}),
        (release("p", "2"), {"docs/a.rst": "A2", "docs/c.rst": "C"}),
        (release("p", "3"), {"docs/a.rst": "A2", "docs/c.rst": "C"}),
        (release("q", "1"), {"docs/a.rst": "A"}),
    ]

    assert list(revisions(history)) == [
        Revision(0, True, "p/docs/a.rst", "A"),
        Revision(0, True, "p/docs/b.rst", "B"),
        Revision(1, False, "p/docs/a.rst", "A2"),
        Revision(1, False, "p/docs/b.rst", None),
        Revision(1, False, "p/docs/c.rst", "C"),
        Revision(3, True, "q/docs/a.rst", "A"),
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("docs/userguide/tasks.rst", True),
        ("doc/build/changelog/changelog_20.rst", True),
        ("README.md", True),
        ("CHANGES.txt", True),
        ("docs/requirements.txt", False),
        ("LICENSE.txt", False),
        ("celery.egg-info/SOURCES.txt", False),
        ("src/package/readme.rst", False),
        ("docs/conf.py", False),
        ("docs/_static/notes.txt", False),
    ],
)
def test_documentation_is_told_from_what_else_lies_there(path: str, expected: bool) -> None:
    """By folder and suffix."""
    assert is_document(path) is expected


def test_documents_of_an_archive_have_no_version_in_their_paths(tmp_path: Path) -> None:
    """Line ends are made alike, Latin-1 is read, a blank file is no document."""
    archive = tmp_path / "p-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in {
            "p-1.0/docs/a.rst": b"one\r\ntwo",
            "p-1.0/docs/latin.rst": "Müller".encode("latin-1"),
            "p-1.0/docs/blank.rst": b"\n \n",
            "p-1.0/p/code.py": b"pass",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

    assert documents(archive) == {"docs/a.rst": "one\ntwo", "docs/latin.rst": "Müller"}


class Letters:
    """A token is a character."""

    def count(self, texts: list[str]) -> int:
        """Of all of them."""
        return sum(map(len, texts))


def test_a_history_costs_what_is_counted_by_hand() -> None:
    """Two paragraphs of one chunk each; then one is edited, then put back, then copied into another document."""
    first, second, edited = ("alpha " * 100).strip(), ("beta " * 110).strip(), ("gamma " * 100).strip()
    paragraphs = Ours(chunks=lambda revision: (revision.text or "").split("\n\n"))
    own = _Own(Letters(), paragraphs)  # type: ignore[arg-type]
    own.take([Revision(0, True, "p/a.txt", f"{first}\n\n{second}")])
    own.take([Revision(1, False, "p/a.txt", f"{first}\n\n{edited}")])
    own.take([Revision(2, False, "p/a.txt", f"{first}\n\n{second}"), Revision(2, False, "p/gone.txt", None)])
    own.take([Revision(3, False, "p/b.txt", edited)])

    lines = {line.name: line for line in own.lines()}

    assert own.mean == (599 + 549) / 2
    assert (own.loaded, own.edits) == (1, 3)
    assert lines[OURS].opening == Cost(2, 599 + 549)
    assert lines[OURS].later == Cost(1, 599)
    assert lines[WHOLE].later == Cost(5, 599 * 2 + 549 + 599 + 599)
    # 599 bytes are 2 chunks of 574 by either way; the first release is one run of 1150 bytes: 3.
    assert lines[BY_RUNS].later == lines[BY_BYTES].later == Cost(2, 599)
    assert lines[BY_RUNS].opening == Cost(3, 1150)


def test_ours_are_the_chunks_of_the_product() -> None:
    """Every character that is no white space is in one of them."""
    text = "\n\n".join(f"Paragraph {number} says {'something ' * 30}and ends." for number in range(9))

    assert "".join("".join(cut(Revision(0, True, "p/a.rst", text))).split()) == "".join(text.split())


def test_the_pinned_releases_stand_in_the_order_of_their_projects() -> None:
    """At least five projects, each together; every checksum is one."""
    releases = pinned()
    projects = [one.project for one in releases]

    assert len(set(projects)) >= 5
    assert projects == sorted(projects, key=projects.index)
    assert all(len(one.sha256) == 64 and one.version in one.file for one in releases)
    assert len({one.file for one in releases}) == len(releases) > 100
