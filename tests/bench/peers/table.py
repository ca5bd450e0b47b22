"""The table of calls: each operation on a document of 20 chunks, by us and by each peer.

Before: `operations.py`, `ours.py`, the peers' scripts. After: `../report.py` prints it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers.ask import Peers, versions
from tests.bench.peers.operations import CHUNKS, operations
from tests.bench.peers.ours import Table

OURS = "Thalweg"
Cell = dict[str, int] | None


@dataclass(frozen=True)
class Found:
    """rows: by name, a cell for each operation (texts embedded, chunks written, chunks deleted; None: not measured)."""

    operations: tuple[str, ...]
    rows: dict[str, tuple[Cell, ...]]
    versions: dict[str, str]


def measure(peers: Peers, tell: Callable[[str], None]) -> Found:
    """Ours and every peer's. Raises SetupError if a script fails, and if one does not begin with 20 chunks."""
    asked = operations()
    rows: dict[str, list[Cell]] = {OURS: list(Table().row())}
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "operations.json"
        file.write_text(json.dumps([one.plain() for one in asked]), encoding="utf-8")
        for name in peers.scripts:
            tell(f"table of calls: {name}")
            rows |= peers.ask(name, "table", str(file))
    for name, row in rows.items():
        if not row[0] or row[0]["texts"] != CHUNKS:
            raise AssertionError(
                f"{name} made {row[0]} of the first text: the table compares documents of {CHUNKS} chunks"
            )
    filled = {name: (*row, *[None] * (len(asked) - len(row))) for name, row in rows.items()}
    return Found(tuple(one.name for one in asked), filled, versions())
