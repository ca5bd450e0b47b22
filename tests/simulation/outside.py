"""What the stages ask besides topics and index: clock, tables, files, parser, log of vectors.

Before this: `store.py`, `broker.py`. After this: `world.py` hands them to the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

from runtime.blobs import BlobUnavailable
from schemas.source import SourceSpec
from streams.parsing.result import Block, ParsedText, ParseFailure
from streams.parsing.warm_child import ParserUnavailable
from streams.ports import TemporaryFailure, Vector
from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

UNREADABLE = "%unreadable%"
"""A file that says this cannot be parsed."""


class Clock:
    def __init__(self, world: World) -> None:
        self._world = world

    def now_ms(self) -> int:
        return self._world.ms


class Rows:
    """RowReader on the tables as they are now."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def read(self, spec: SourceSpec, key: Mapping[str, Any]) -> dict[str, Any] | None:
        self._process.point(_database_away)
        row = self._world.tables[spec.name].rows.get(key["id"])
        return None if row is None else dict(row)


class VectorLog:
    """VectorLog on what was published."""

    def __init__(self, world: World, process: Process, known: Callable[[Collection[str]], None]) -> None:
        self._world = world
        self._process = process
        self._known = known

    def vectors(self, tenant: str, text_hashes: Collection[str]) -> dict[str, Vector]:
        self._process.point(lambda: TemporaryFailure("the broker is away"))
        kept = self._world.embeddings
        found = {hashed: kept[tenant, hashed] for hashed in text_hashes if (tenant, hashed) in kept}
        self._known(found)
        return found


class Blobs:
    """BlobStore, as far as parsing uses it."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def fetch_to(self, uri: str, path: Path) -> None:
        self._process.point(lambda: BlobUnavailable("the blob store is away"))
        path.write_text(self._world.blobs[uri], "utf-8")


class Pool:
    """ParserPool for plain texts: a paragraph is a block."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def parse(self, path: Path, kind: object, *, deadline_s: float) -> ParsedText | ParseFailure:
        self._process.point(lambda: ParserUnavailable("no child"))
        text = path.read_text("utf-8")  # noqa: ASYNC240  a simulated process has no loop to hold up
        if UNREADABLE in text:
            return ParseFailure("corrupt", "it cannot be read")
        blocks, at = [], 0
        for part in text.split("\n\n"):
            blocks.append(Block("paragraph", at, at + len(part)))
            at += len(part) + 2
        return ParsedText(text, tuple(blocks), None, {})


def folder() -> Path:
    """Where parsing keeps a file for a moment: in memory, where the machine has such a folder."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else Path(gettempdir())


def _database_away() -> Exception:
    return TemporaryFailure("the database is away")
