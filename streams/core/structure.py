"""Text to blocks: headings, paragraphs, list items, tables and code, each with its characters.

What a stretch of text is, its own lines decide, never what stands further up or down: a paragraph put between two
blocks leaves both as they were. (A code fence, which lasts until it is closed, is the exception.)

Before this: a change, whose parser may have given blocks already. After this: `chunking.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from schemas.records import Block

_HEADING = re.compile(r"^(#{1,6})\s+\S")
_LIST_ITEM = re.compile(r"^\s{0,8}(?:[-*+•]|\d{1,3}[.)])\s+\S")
_TABLE_ROW = re.compile(r"^\s*\|.*\|\s*$")
_GRID_LINE = re.compile(r"^\s*\+(?:[-=]+\+)+\s*$")
_FENCE = re.compile(r"^\s{0,3}(```+|~~~+)")
_UNDERLINE = re.compile(r"^(=+|-+)\s*$")
_RULE = re.compile(r"^([=\-~^*#+\"'`])\1{2,}$")
_RULE_LEVELS = {"#": 1, "*": 1, "=": 2, "-": 3, "~": 4, "^": 4}
"""Of an underlined title in plain text. reStructuredText ranks the rules by their first use in a document; then a
title added on top could change the rank of all the others, so the usual order is taken for granted here."""


def blocks_of(text: str, content_type: str) -> list[Block]:
    """The blocks of a plain or Markdown text, in order and without overlap; what lies between is white space."""
    return list(_markdown(text) if content_type == "text/markdown" else _plain(text))


def title_of(heading: str) -> str:
    """A heading's words, without the signs that make it one."""
    words = [line for line in heading.splitlines() if not _RULE.match(line.rstrip())]
    return "\n".join(words).strip("# \t\n")


def _lines(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end without the line break, line)."""
    start = 0
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        yield start, start + len(bare), bare
        start += len(line)


def _plain(text: str) -> Iterator[Block]:
    """Runs of lines that are not blank; such a run may begin with a title, or be a list or a table."""
    run: list[tuple[int, int, str]] = []
    for line in _lines(text):
        if line[2].strip():
            run.append(line)
        elif run:
            yield from _plain_run(run)
            run = []
    if run:
        yield from _plain_run(run)


def _plain_run(run: list[tuple[int, int, str]]) -> Iterator[Block]:
    lines, level = _title(run)
    if lines:
        yield Block("heading", run[0][0], run[lines - 1][1], level)
        run = run[lines:]
    if not run:
        return
    if _TABLE_ROW.match(run[0][2]) or _GRID_LINE.match(run[0][2]):
        yield Block("table", run[0][0], run[-1][1])
        return
    first = run[0][0]
    kind = "paragraph"
    last = first
    for start, end, line in run:
        # In the middle of a paragraph a number with a dot is as likely the end of a sentence.
        if _LIST_ITEM.match(line) and (kind == "list_item" or start == run[0][0]):
            if start > first:
                yield Block(kind, first, last)
            kind, first = "list_item", start
        last = end
    yield Block(kind, first, last)


def _title(run: list[tuple[int, int, str]]) -> tuple[int, int]:
    """(lines, level) of the underlined title that a run begins with; (0, 0) if it does not."""
    texts = [line.rstrip() for _, _, line in run[:3]]
    if len(run) == 1 and (marked := _HEADING.match(texts[0])):
        return 1, len(marked.group(1))  # Markdown that was not declared as such
    if len(texts) == 3 and _is_title(texts[1], texts[2]) and texts[0] == texts[2]:
        return 3, 1
    if len(texts) >= 2 and _is_title(texts[0], texts[1]):
        return 2, _RULE_LEVELS.get(texts[1][0], 5)
    return 0, 0


def _is_title(text: str, rule: str) -> bool:
    return _RULE.match(rule) is not None and not _RULE.match(text.strip()) and len(text.strip()) <= len(rule)


def _markdown(text: str) -> Iterator[Block]:  # noqa: C901  one branch for each kind of line
    """CommonMark's block structure as far as chunking needs it; inline syntax stays as it is written."""
    kind, first, last, first_line = "", 0, 0, 0
    fence: str | None = None

    def flush() -> Iterator[Block]:
        nonlocal kind
        if kind:
            yield Block(kind, first, last)
        kind = ""

    for start, end, line in _lines(text):
        if fence is not None:
            last = end
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                fence = None
                yield from flush()
            continue
        if opened := _FENCE.match(line):
            yield from flush()
            fence, kind, first, last = opened.group(1), "code", start, end
        elif not line.strip():
            yield from flush()
        elif heading := _HEADING.match(line):
            yield from flush()
            yield Block("heading", start, end, len(heading.group(1)))
        elif (underline := _UNDERLINE.match(line)) and kind == "paragraph" and last == first_line:
            yield Block("heading", first, end, 1 if underline.group(1)[0] == "=" else 2)
            kind = ""
        elif _LIST_ITEM.match(line):
            yield from flush()
            kind, first, last = "list_item", start, end
        elif _TABLE_ROW.match(line):
            if kind != "table":
                yield from flush()
                kind, first = "table", start
            last = end
        else:
            if kind not in ("paragraph", "list_item"):
                yield from flush()
                kind, first, first_line = "paragraph", start, end
            last = end
    yield from flush()
