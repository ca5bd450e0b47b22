"""Archives to revisions: each release is an edit of the same documents.

Before: `archives.py`. After: `bound.py` and `ours.py` count what it costs, and the peers' scripts in `../peers` too.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.edits.archives import Release

_DOCUMENT = re.compile(r"(?:docs?/.+|[^/]+)\.(?:rst|md|txt)", re.IGNORECASE)
_NO_DOCUMENT = re.compile(
    r"(?:.*/)?(?:requirements[^/]*|sources|licen[cs]e[^/]*)\.\w+"
    r"|.*\.egg-info/.*|docs?/(?:_build|_static|_templates|_themes)/.*",
    re.IGNORECASE,
)
GENERATED = frozenset({"doc/en/reference/plugin_list.rst"})
"""Written by a program, not by people: a list of 1.4 MB in which each release changes the date of every third row."""


@dataclass(frozen=True)
class Revision:
    """A document as a release has it, where that differs from the release before. text is None if it is gone.

    release counts from 0 over the whole history; opening says that it is its project's first release.
    """

    release: int
    opening: bool
    document: str
    text: str | None

    @property
    def content_type(self) -> str:
        """As the product would be told it. reStructuredText has no parser of its own there, as uploads of it show."""
        return "text/markdown" if self.document.lower().endswith(".md") else "text/plain"


def documents(archive: Path) -> dict[str, str]:
    """Path to text of the documents of one source distribution; the folder with the version is cut off."""
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            path = member.name.partition("/")[2]
            if not member.isreg() or path in GENERATED or not is_document(path):
                continue
            stream = tar.extractfile(member)
            content = stream.read() if stream else b""
            try:
                text = content.decode("utf-8-sig")
            except UnicodeDecodeError:
                text = content.decode("latin-1")
            if text.strip():
                found[path] = text.replace("\r\n", "\n")
    return found


def is_document(path: str) -> bool:
    """Whether a path within a distribution is documentation that people wrote."""
    return bool(_DOCUMENT.fullmatch(path)) and not _NO_DOCUMENT.fullmatch(path)


def revisions(history: Iterable[tuple[Release, Mapping[str, str]]]) -> Iterator[Revision]:
    """What each release changed: a revision for each document that is new, reads otherwise, or is gone."""
    project, before = "", dict[str, str]()
    for number, (release, now) in enumerate(history):
        opening = release.project != project
        if opening:
            project, before = release.project, {}
        for path in sorted({*before, *now}):
            if before.get(path) != now.get(path):
                yield Revision(number, opening, f"{project}/{path}", now.get(path))
        before = dict(now)
