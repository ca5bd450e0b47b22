"""Tables as text: sheets, comma-separated values, and the HTML tables of unstructured's elements.

Before it: guard.py, for workbooks. After it: `result.assemble`.

Sheets and CSV are read here and not by unstructured, whose way leads through pandas: there `007` becomes `7` and a
count beside an empty cell becomes `5.0`, which is then neither found nor cited right, at 60 to 280 KB/s.
"""

import csv
import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO, StringIO

from lxml import etree  # type: ignore[import-untyped]
from lxml import html as lxml_html

from streams.parsing.result import Piece, Refused

_CELL_LIMIT = 10_485_760  # characters of one CSV field
_MAX_COLUMNS = 16_384  # a sheet's own limit


def row_text(cells: Iterable[str]) -> str:
    """A row as `a | b | c`: each cell on one line, empty cells at the end dropped."""
    texts = [" ".join(cell.split()) for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return " | ".join(texts)


def csv_pieces(text: str) -> Iterator[Piece]:
    """A CSV file as one table; the delimiter is the one of `,` `;` tab `|` that its first line holds most of."""
    csv.field_size_limit(_CELL_LIMIT)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t|", key=first.count)
    try:
        reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter)
        rows = [line for cells in reader if (line := row_text(cells))]
    except csv.Error as broken:
        raise Refused("corrupt", f"the file is not readable as CSV: {broken}") from broken
    if rows:
        yield Piece("table", "\n".join(rows))


def workbook_pieces(data: bytes) -> Iterator[Piece]:
    """A workbook: each sheet a heading with its name, and a table for each run of rows without a blank one.

    Lines with a single cell on top of a run are paragraphs: titles and notes above a table.
    """
    import openpyxl

    # read_only streams the rows; data_only gives the values a formula last had.
    book = openpyxl.load_workbook(BytesIO(data), read_only=True, data_only=True, keep_links=False)
    for page, sheet in enumerate(book.worksheets, start=1):
        # The size a sheet claims is not trusted: it would be padded with empty cells up to it.
        sheet.reset_dimensions()
        runs = _runs(sheet.iter_rows(values_only=True))
        first = next(runs, None)
        if first is None:
            continue
        yield Piece("heading", sheet.title, 1, page)
        for run in (first, *runs):
            yield from _run_pieces(run, page)


def html_table_text(markup: str) -> str:
    """The rows of an HTML table as unstructured renders one."""
    try:
        table = lxml_html.fromstring(markup)
    except (etree.ParserError, etree.XMLSyntaxError):
        return ""
    rows = (row_text(str(cell.text_content()) for cell in row.iterchildren("td", "th")) for row in table.iter("tr"))
    return "\n".join(row for row in rows if row)


def _runs(rows: Iterable[Sequence[object]]) -> Iterator[list[list[str]]]:
    run: list[list[str]] = []
    for row in rows:
        cells = [_cell_text(value) for value in row[:_MAX_COLUMNS]]
        if any(cells):
            run.append(cells)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _run_pieces(run: list[list[str]], page: int) -> Iterator[Piece]:
    top = 0
    while top < len(run) and sum(map(bool, run[top])) == 1:
        yield Piece("paragraph", "".join(run[top]), 0, page)
        top += 1
    if top < len(run):
        yield Piece("table", "\n".join(row_text(cells) for cells in run[top:]), 0, page)


def _cell_text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "TRUE" if value else "FALSE"
        case float():
            return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        case dt.datetime() if value.time() == dt.time():
            return value.date().isoformat()
        case dt.datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case _:
            return str(value).strip()
