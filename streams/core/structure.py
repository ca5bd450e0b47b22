"""Text to blocks: headings, paragraphs, list items, tables and code, each with its characters.

Before this: a change, whose parser may have given blocks already. After this: `chunking.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from schemas.records import Block

_HEADING = re.compile(r"^(#{1,6})\s+\S")
_LIST_ITEM = re.compile(r"^\s{0,8}(?:[-*+]|\d{1,3}[.)])\s+\S")
_TABLE_ROW = re.compile(r"^\s*\|.*\|\s*$")
_FENCE = re.compile(r"^\s{0,3}(```+|~~~+)")
_UNDERLINE = re.compile(r"^(=+|-+)\s*$")


def blocks_of(text: str, content_type: str) -> list[Block]:
    """The blocks of a plain or Markdown text, in order and without overlap; what lies between is white space."""
    return list(_markdown(text) if content_type == "text/markdown" else _plain(text))


def _lines(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end without the line break, line)."""
    start = 0
    for line in text.splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        yield start, start + len(bare), bare
        start += len(line)


def _plain(text: str) -> Iterator[Block]:
    """Paragraphs: runs of lines that are not blank."""
    first: int | None = None
    last = 0
    for start, end, line in _lines(text):
        if line.strip():
            first = start if first is None else first
            last = end
        elif first is not None:
            yield Block("paragraph", first, last)
            first = None
    if first is not None:
        yield Block("paragraph", first, last)


def _markdown(text: str) -> Iterator[Block]:  # noqa: C901  one branch for each kind of line
    """CommonMark's block structure as far as chunking needs it; inline syntax stays as it is written."""
    kind, first, last = "", 0, 0
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
        elif (underline := _UNDERLINE.match(line)) and kind == "paragraph" and "\n" not in text[first:last]:
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
                kind, first = "paragraph", start
            last = end
    yield from flush()
