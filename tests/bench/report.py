"""The bench's tables, for people.

Before: what `edits/measure.py` and `peers/table.py` found. After: a terminal; `--json` prints the same without it.
"""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench import fairness, search
from tests.bench.edits import measure as edits
from tests.bench.peers import table as calls

NARROWEST = 110


def console() -> Console:
    """Standard output, wide enough for the tables also where it is no terminal."""
    found = Console(highlight=False)
    return found if found.width >= NARROWEST else Console(width=NARROWEST, highlight=False)


def print_calls(found: calls.Found, to: Console) -> None:
    """One row an operation, one column a tool: texts embedded, chunks written + chunks deleted."""
    to.print("Calls: texts embedded / chunks written + deleted; a document of 20 chunks")
    made = Table(box=box.SIMPLE_HEAD)
    made.add_column("operation", no_wrap=True)
    for name in found.rows:
        made.add_column(name, justify="right")
    for at, operation in enumerate(found.operations):
        made.add_row(operation, *(_cell(row[at]) for row in found.rows.values()))
    to.print(made)
    to.print(", ".join(f"{name} {version}" for name, version in found.versions.items()), style="dim")


def _cell(cell: calls.Cell) -> str:
    return "-" if cell is None else f"{cell['texts']} / {cell['writes']}+{cell['deletes']}"


def print_edits(found: edits.Found, to: Console) -> None:
    """One row a way; the last columns are ours over it."""
    to.print(
        f"Real edits: {found.projects} projects, {found.releases} releases, {found.loaded} documents at first, "
        f"{found.edits} revisions later, {found.megabytes} MB of text"
    )
    made = Table(box=box.SIMPLE_HEAD)
    made.add_column("embedded by", no_wrap=True)
    for name in ("mean chunk", "first texts", "first tokens", "later texts", "later tokens", "ours: texts", "tokens"):
        made.add_column(name, justify="right")
    ours = found.line(edits.OURS).later
    for line in found.lines:
        counts = (line.opening.texts, line.opening.tokens, line.later.texts, line.later.tokens)
        shares = (ours.texts / max(line.later.texts, 1), ours.tokens / max(line.later.tokens, 1))
        made.add_row(
            line.name, f"{line.mean:g}", *(f"{count:,}" for count in counts), *(f"{share:.2f}" for share in shares)
        )
    to.print(made)
    to.print("; ".join(f"{line.name}: {line.setting}" for line in found.lines if line.setting), style="dim")
    verdict = "kept" if found.good else "NOT KEPT"
    most = f"{edits.MOST_OVER_BOUND} of the bound by runs, {edits.MOST_OF_WHOLE} of whole documents"
    to.print(f"promised: at most {most}: {verdict}")


def print_search(found: search.Found, to: Console) -> None:
    """One row a number of clients; milliseconds."""
    to.print(f"Searches over {found.chunks:,} chunks beside the bare sum: embedding the question, and a hybrid search")
    made = Table(box=box.SIMPLE_HEAD)
    for name in ("clients", "of each", "search p50", "p95", "bare p50", "p95", "p95 over bare"):
        made.add_column(name, justify="right")
    for pair in found.pairs:
        times = (pair.search_p50, pair.search_p95, pair.bare_p50, pair.bare_p95)
        made.add_row(
            str(pair.clients), str(pair.count), *(f"{seconds * 1000:.1f} ms" for seconds in times), f"{pair.ratio:.2f}"
        )
    to.print(made)
    to.print(f"promised: at most {search.MOST_OF_BARE} times: {'kept' if found.good else 'NOT KEPT'}")


def print_fairness(found: fairness.Fairness, to: Console) -> None:
    """The quiet tenant's two p95, and what the loud one got."""
    loud = ", ".join(f"{count:,} times {status}" for status, count in sorted(found.loud.items()))
    to.print(
        f"A tenant's searches: p95 {found.alone * 1000:.1f} ms alone, {found.beside * 1000:.1f} ms beside one that "
        f"asks {fairness.FACTOR} times as much; {found.failed} of {found.quiet} failed; the other got {loud}"
    )
    to.print(f"ratio {found.ratio:.2f}; promised: at most {fairness.RATIO:g}: {'kept' if found.good else 'NOT KEPT'}")
