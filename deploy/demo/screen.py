"""What the demo prints: short numbered steps, bars on a terminal, plain lines elsewhere.

Before: `play` has something to say. After: a person reads it, or a log keeps it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from deploy.demo import load

LINE_EVERY_S = 5.0
"""How often a log hears of a load that goes on."""


class Screen:
    """Numbered steps on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps = 0

    def step(self, title: str) -> None:
        """A new step begins."""
        self._steps += 1
        self._console.print(f"\n[bold]{self._steps}  {escape(title)}[/bold]", highlight=False, soft_wrap=True)

    def say(self, text: str, *, style: str | None = None) -> None:
        """A line below the step; on a terminal, what is too wide goes on below itself."""
        self._indented(Text(text, style=style or ""))

    def held(self, text: str) -> None:
        """A claim was seen to hold."""
        self._indented(Text.assemble(("ok ", "green"), text))

    def failed(self, text: str) -> None:
        """A claim did not hold."""
        self._indented(Text.assemble(("failed ", "bold red"), text))

    def pairs(self, pairs: list[tuple[str, str]]) -> None:
        """Names and values, one a line; values are not broken, so that they can be copied."""
        width = max(len(name) for name, _ in pairs)
        for name, value in pairs:
            self._console.print(f"   {escape(name):<{width}}  {escape(value)}", highlight=False, soft_wrap=True)

    def _indented(self, text: Text) -> None:
        if self._console.is_terminal:
            self._console.print(Padding(text, (0, 0, 0, 3)), highlight=False)
        else:
            self._console.print(Text.assemble("   ", text), highlight=False, soft_wrap=True)

    @contextmanager
    def loading(self, rows: int, files: int) -> Iterator[Callable[[load.Progress], None]]:
        """Show how far a load is while the block runs; call the function at each change."""
        totals = {"captured (rows)": rows, "parsed (files)": files, "indexed": rows + files}
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            columns = (TextColumn("   {task.description:<15}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            with Progress(*columns, console=self._console) as progress:
                tasks = [progress.add_task(name, total=total) for name, total in totals.items()]

                def move(now: load.Progress) -> None:
                    for task, count in zip(tasks, (now.captured, now.parsed, now.indexed), strict=True):
                        progress.update(task, completed=count)

                yield move
            return
        last = 0.0

        def line(now: load.Progress) -> None:
            nonlocal last
            if now.indexed < rows + files and time.monotonic() - last < LINE_EVERY_S:
                return
            last = time.monotonic()
            self.say(
                f"captured {now.captured}/{rows}, parsed {now.parsed}/{files}, indexed {now.indexed}/{rows + files}"
            )

        yield line
