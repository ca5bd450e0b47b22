"""The bench's tables, for people.

Before: what `edits/measure.py` and `peers/table.py` found. After: a terminal; `--json` prints the same without it.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tests.bench.edits import measure as edits
from tests.bench.peers import table as calls


def print_calls(found: calls.Found, console: Console) -> None:
    """One row an operation, one column a tool: texts embedded, chunks written + chunks deleted."""
    made = Table(
        title="Calls: texts embedded / chunks written + deleted, a document of 20 chunks", title_justify="left"
    )
    made.add_column("operation")
    for name in found.rows:
        made.add_column(name, justify="right")
    for at, operation in enumerate(found.operations):
        made.add_row(operation, *(_cell(row[at]) for row in found.rows.values()))
    console.print(made)
    console.print(", ".join(f"{name} {version}" for name, version in found.versions.items()), style="dim")


def _cell(cell: calls.Cell) -> str:
    return "-" if cell is None else f"{cell['texts']} / {cell['writes']}+{cell['deletes']}"


def print_edits(found: edits.Found, console: Console) -> None:
    """One row a way; the last column is ours over it."""
    console.print(
        f"Real edits: {found.projects} projects, {found.releases} releases, {found.loaded} documents at first, "
        f"{found.edits} revisions later, {found.megabytes} MB; chunks of {found.mean:g} bytes"
    )
    made = Table()
    for name in ("way", "setting"):
        made.add_column(name)
    for name in ("mean", "first texts", "first tokens", "later texts", "later tokens", "ours / it"):
        made.add_column(name, justify="right")
    ratios = found.ratios()
    for line in found.lines:
        counts = (line.opening.texts, line.opening.tokens, line.later.texts, line.later.tokens)
        made.add_row(
            line.name,
            line.setting,
            f"{line.mean:g}",
            *(f"{count:,}" for count in counts),
            f"{ratios.get(line.name, 0):.2f}",
        )
    console.print(made)
