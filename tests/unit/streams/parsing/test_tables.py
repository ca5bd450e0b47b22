import datetime as dt
import zipfile
from io import BytesIO

import openpyxl  # type: ignore[import-untyped]
import pytest

from streams.parsing.result import Refused
from streams.parsing.tables import csv_pieces, html_table_text, workbook_pieces
from tests.fixtures.make_files import with_part


def workbook(*rows: tuple[object, ...]) -> bytes:
    book, out = openpyxl.Workbook(), BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(out)
    return out.getvalue()


def texts(data: bytes) -> list[tuple[str, str]]:
    return [(str(piece.kind), piece.text) for piece in workbook_pieces(data)][1:]


def test_cells_read_as_a_person_would_write_them() -> None:
    midnight, noon = dt.datetime(2026, 4, 6), dt.datetime(2026, 4, 6, 12, 30)  # noqa: DTZ001 - sheets know no zones
    data = workbook(("007", 7, 2.5, True), (midnight, noon, None, "two\nlines"))
    assert texts(data) == [("table", "007 | 7 | 2.5 | TRUE\n2026-04-06 | 2026-04-06 12:30:00 |  | two lines")]


def test_a_whole_number_stored_with_a_point_is_a_whole_number() -> None:
    data = workbook((4, 5))
    sheet = zipfile.ZipFile(BytesIO(data)).read("xl/worksheets/sheet1.xml").replace(b"<v>4</v>", b"<v>4.0</v>")
    assert b"4.0" in sheet
    assert texts(with_part(data, "xl/worksheets/sheet1.xml", sheet)) == [("table", "4 | 5")]


def test_a_blank_row_parts_two_tables() -> None:
    data = workbook(("a", "b"), (None, None), ("c", "d"))
    assert texts(data) == [("table", "a | b"), ("table", "c | d")]


def test_lines_of_one_cell_above_a_table_are_paragraphs() -> None:
    data = workbook(("A title",), ("a", "b"), ("only one",))
    assert texts(data) == [("paragraph", "A title"), ("table", "a | b\nonly one")]


@pytest.mark.parametrize("claim", [b"A1", b"A1:XFD1048576"])
def test_the_size_that_a_sheet_claims_is_not_trusted(claim: bytes) -> None:
    data = workbook(("a", "b"))
    sheet = zipfile.ZipFile(BytesIO(data)).read("xl/worksheets/sheet1.xml").replace(b"A1:B1", claim)
    assert b'"' + claim + b'"' in sheet
    assert texts(with_part(data, "xl/worksheets/sheet1.xml", sheet)) == [("table", "a | b")]


def test_an_empty_workbook_has_nothing() -> None:
    assert list(workbook_pieces(workbook())) == []


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_the_first_line_shows(delimiter: str) -> None:
    text = delimiter.join("ab") + "\n" + delimiter.join(("1", '"x, y; z|t"'))
    assert [piece.text for piece in csv_pieces(text)] == ["a | b\n1 | x, y; z|t"]


def test_csv_without_rows_is_nothing() -> None:
    assert list(csv_pieces("\n\n")) == []


def test_a_csv_field_without_end_is_corrupt() -> None:
    with pytest.raises(Refused) as caught:
        list(csv_pieces('a,"' + "x" * 11_000_000))
    assert caught.value.failure.reason == "corrupt"


def test_an_html_table_keeps_its_rows_and_cells() -> None:
    markup = (
        "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1 <b>x</b></td><td/></tr></tbody></table>"
    )
    assert html_table_text(markup) == "a | b\n1 x"
    assert html_table_text("") == ""
