"""PDF to unstructured's elements, by PDFium's text and where it stands on the page.

Before it: the file's path. After it: elements.py, which treats these elements like those of any partitioner.
unstructured's own PDF partitioner is not used: it drags in PyTorch for page images, and this needs only text.
"""

import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from streams.parsing.result import Refused

MAX_PAGES = 5_000  # a book has 1,000; PDFium reads about 100 pages a second

_ERROR_PASSWORD = 4  # FPDF_ERR_PASSWORD in fpdfview.h
_HYPHENATED = ("\x02", "\ufffe")  # how PDFium marks a word cut at a line's end
_BULLET = re.compile(r"[•‣◦▪●○■–*-]\s+(?=\S)")
_NUMBERED = re.compile(r"\(?(\d{1,3}|[a-z])[.)]\s+(?=\S)")
_HEADING_RATIO = 1.15  # times the height of most lines
_HEADING_CHARS = 200


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    left: float
    bottom: float
    height: float
    """Of the font, in page units; 0 where PDFium does not say."""


@dataclass(frozen=True, slots=True)
class _Paragraph:
    text: str
    height: float
    lines: int
    page: int


def partition_pdf(path: Path) -> tuple[list[Any], dict[str, str]]:
    """(unstructured elements, document properties) of a PDF.

    Raises:
        Refused: 'encrypted', 'corrupt' or 'too_large'.
    """
    import pypdfium2
    from unstructured.documents.elements import ElementMetadata, ListItem, NarrativeText, Title

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _ERROR_PASSWORD:
            raise Refused("encrypted", "the PDF is protected by a password; upload it without one") from error
        raise Refused("corrupt", "the file is damaged: it cannot be read as a PDF") from error
    if len(document) > MAX_PAGES:
        raise Refused("too_large", f"the PDF has {len(document)} pages, {MAX_PAGES} are the limit; split it")
    pages = [(number, _page_lines(document, number)) for number in range(1, len(document) + 1)]
    paragraphs = list(_paragraphs(pages))
    body, sizes = _sizes(paragraphs)
    elements: list[Any] = []
    for paragraph in paragraphs:
        metadata = ElementMetadata(page_number=paragraph.page)
        if _is_heading(paragraph, body):
            metadata.category_depth = sizes.index(round(paragraph.height))
            elements.append(Title(paragraph.text, metadata=metadata))
        elif bullet := _BULLET.match(paragraph.text):
            elements.append(ListItem(paragraph.text[bullet.end() :], metadata=metadata))
        elif _NUMBERED.match(paragraph.text):
            elements.append(ListItem(paragraph.text, metadata=metadata))
        else:
            elements.append(NarrativeText(paragraph.text, metadata=metadata))
    return elements, _properties(document)


def _properties(document: Any) -> dict[str, str]:
    given = document.get_metadata_dict(skip_empty=True)
    names = {"Title": "title", "Author": "author", "CreationDate": "created"}
    return {ours: given[theirs] for theirs, ours in names.items() if theirs in given} | {"pages": str(len(document))}


def _page_lines(document: Any, number: int) -> list[_Line]:
    import pypdfium2

    try:
        page = document[number - 1]
        text_page = page.get_textpage()
    except pypdfium2.PdfiumError as error:
        raise Refused("corrupt", f"the file is damaged: page {number} cannot be read") from error
    count = text_page.count_chars()
    text = text_page.get_text_range() if count else ""
    # PDFium's boxes are numbered by its own characters; where these are not the text's, there is no geometry.
    placed = len(text) == count
    lines, at = [], 0
    for raw in text.split("\r\n"):
        if raw.strip():
            left = bottom = height = 0.0
            if placed:
                first = at + len(raw) - len(raw.lstrip())
                left, bottom, _, top = text_page.get_charbox(first, loose=True)
                height = top - bottom
            lines.append(_Line(raw.strip(" \t\r\n"), left, bottom, height))
        at += len(raw) + 2
    text_page.close()
    page.close()
    return lines


def _paragraphs(pages: list[tuple[int, list[_Line]]]) -> Iterator[_Paragraph]:
    """Lines joined to paragraphs: a new one begins at a wider gap, another font height, a bullet or a page."""
    steps = [
        (before.bottom - line.bottom) / line.height
        for _, lines in pages
        for before, line in pairwise(lines)
        if line.height > 0 and 0 < before.bottom - line.bottom < 4 * line.height
    ]
    # The smaller steps are those between a paragraph's own lines.
    step = min(max(statistics.quantiles(steps, n=4)[0], 0.8), 2.4) if len(steps) > 1 else 1.2
    for number, lines in pages:
        open_one: _Paragraph | None = None
        before: _Line | None = None
        for line in lines:
            if open_one is None or before is None or _begins(before, line, step):
                if open_one is not None:
                    yield open_one
                open_one = _Paragraph(line.text, line.height, 1, number)
            else:
                open_one = replace(open_one, text=_joined(open_one.text, line.text), lines=open_one.lines + 1)
            before = line
        if open_one is not None:
            yield open_one


def _begins(before: _Line, line: _Line, step: float) -> bool:
    if _BULLET.match(line.text) or _NUMBERED.match(line.text):
        return True
    if not before.height or not line.height:
        return False
    if abs(before.height - line.height) > 0.12 * before.height:
        return True
    down = (before.bottom - line.bottom) / line.height
    return down > 1.3 * step or down < -0.5


def _joined(text: str, line: str) -> str:
    if text.endswith(_HYPHENATED):
        return text[:-1] + line
    if text.endswith("-") and line[:1].islower():
        return text + line
    return f"{text} {line}"


def _sizes(paragraphs: list[_Paragraph]) -> tuple[float, list[int]]:
    """(height of most text, rounded heading heights from the largest)."""
    heights = sorted((p.height, len(p.text)) for p in paragraphs)
    half, seen, body = sum(n for _, n in heights) / 2, 0, 0.0
    for height, length in heights:
        seen += length
        body = height
        if seen >= half:
            break
    return body, sorted({round(p.height) for p in paragraphs if _is_heading(p, body)}, reverse=True)


def _is_heading(paragraph: _Paragraph, body: float) -> bool:
    larger = body > 0 and paragraph.height > _HEADING_RATIO * body
    return larger and len(paragraph.text) <= _HEADING_CHARS and paragraph.lines <= 3
