"""Every kind of file, read the way the worker reads it: in a real child, without a network."""

from importlib import metadata
from pathlib import Path

import pytest

from runtime.filetypes import Kind, detect
from streams.parsing.pool import ParserPool
from streams.parsing.result import ParsedText, ParseFailure
from tests.fixtures import make_files

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]
TABLE = "station | code | metres\nOld mill | 007 | 4\nWeir | 012 | 2.5"


async def read(pool: ParserPool, tmp_path: Path, kind: Kind, data: bytes) -> ParsedText:
    parsed = await attempt(pool, tmp_path, kind, data)
    assert isinstance(parsed, ParsedText), parsed
    return parsed


async def attempt(pool: ParserPool, tmp_path: Path, kind: Kind, data: bytes) -> ParsedText | ParseFailure:
    path = tmp_path / "upload"
    path.write_bytes(data)
    return await pool.parse(path, kind, deadline_s=30)


def shape(parsed: ParsedText) -> list[tuple[str, int, str]]:
    return [(b.kind, b.level, parsed.text[b.start : b.end]) for b in parsed.blocks]


@pytest.mark.parametrize("kind", list(Kind))
async def test_the_sentence_of_each_kind_is_found_whole(pool: ParserPool, tmp_path: Path, kind: Kind) -> None:
    data = make_files.MAKERS[kind]()
    assert detect(f"a.{kind}", data) is kind
    parsed = await read(pool, tmp_path, kind, data)
    assert make_files.SENTENCE in parsed.text


async def test_text_has_its_heading_paragraph_and_list(pool: ParserPool, tmp_path: Path) -> None:
    parsed = await read(pool, tmp_path, Kind.TXT, make_files.make_txt())
    items = [("list_item", 0, item) for item in make_files.ITEMS]
    assert shape(parsed) == [("heading", 1, "SEDIMENT REPORT"), ("paragraph", 0, make_files.SENTENCE), *items]


async def test_markdown_has_its_structure_and_front_matter_title(pool: ParserPool, tmp_path: Path) -> None:
    parsed = await read(pool, tmp_path, Kind.MD, make_files.make_md())
    assert parsed.title == make_files.TITLE
    assert shape(parsed) == [
        ("heading", 1, make_files.TITLE),
        ("heading", 2, make_files.SECTION),
        ("paragraph", 0, make_files.SENTENCE),
        *(("list_item", 0, item) for item in make_files.ITEMS),
        ("code", 0, "level = 4\n\nprint(level)"),
        ("table", 0, TABLE),
    ]


async def test_html_has_its_structure_and_no_script(pool: ParserPool, tmp_path: Path) -> None:
    parsed = await read(pool, tmp_path, Kind.HTML, make_files.make_html())
    assert parsed.title == make_files.TITLE
    assert "not text" not in parsed.text
    assert shape(parsed) == [
        ("heading", 1, make_files.TITLE),
        ("heading", 2, make_files.SECTION),
        ("paragraph", 0, make_files.SENTENCE),
        *(("list_item", 0, item) for item in make_files.ITEMS),
        ("table", 0, TABLE),
        ("code", 0, "level = 4"),
    ]


async def test_a_short_html_paragraph_is_no_heading(pool: ParserPool, tmp_path: Path) -> None:
    parsed = await read(pool, tmp_path, Kind.HTML, b"<html><body><p>Warm Clothes</p></body></html>")
    assert shape(parsed) == [("paragraph", 0, "Warm Clothes")]


async def test_word_has_its_structure_and_properties(pool: ParserPool, tmp_path: Path) -> None:
    parsed = await read(pool, tmp_path, Kind.DOCX, make_files.make_docx())
    assert (parsed.title, parsed.metadata["author"]) == (make_files.TITLE, "Ada Brook")
    assert shape(parsed) == [
        ("heading", 1, make_files.TITLE),
        ("heading", 2, make_files.SECTION),
        ("paragraph", 0, make_files.SENTENCE),
        *(("list_item", 0, item) for item in make_files.ITEMS),
        ("table", 0, TABLE),
    ]


async def test_slides_have_their_titles_tables_notes_and_numbers(pool: ParserPool, tmp_path: Path) -> None:
    parsed = await read(pool, tmp_path, Kind.PPTX, make_files.make_pptx())
    assert ("heading", 1, make_files.TITLE) in shape(parsed)
    assert ("heading", 1, make_files.SECTION) in shape(parsed)
    assert ("table", 0, TABLE) in shape(parsed)
    assert "Say this slowly to everybody" in parsed.text
    pages = {parsed.text[b.start : b.end]: b.page for b in parsed.blocks}
    assert (pages[make_files.TITLE], pages[make_files.SECTION]) == (1, 2)


async def test_sheets_keep_numbers_as_they_are_written(pool: ParserPool, tmp_path: Path) -> None:
    parsed = await read(pool, tmp_path, Kind.XLSX, make_files.make_xlsx())
    assert shape(parsed) == [
        ("heading", 1, make_files.SECTION),
        ("paragraph", 0, make_files.SENTENCE),
        ("table", 0, "station | code | count\nOld mill | 007 | 4\nWeir | 012\nBridge | 013 | 2.5"),
        ("heading", 1, "Gauges"),
        ("table", 0, "float | radar"),
    ]
    assert {b.page for b in parsed.blocks} == {1, 2}
    assert parsed.title is None


async def test_csv_keeps_leading_zeros_quotes_and_gaps(pool: ParserPool, tmp_path: Path) -> None:
    parsed = await read(pool, tmp_path, Kind.CSV, make_files.make_csv())
    assert shape(parsed) == [("table", 0, f"{TABLE}\nBridge, north |  | {make_files.SENTENCE}")]


async def test_mail_has_its_headers_and_leaves_attachments_alone(pool: ParserPool, tmp_path: Path) -> None:
    parsed = await read(pool, tmp_path, Kind.EML, make_files.make_eml())
    assert parsed.title == make_files.TITLE
    assert parsed.metadata["from"] == "Ada Brook <ada@example.org>"
    assert "attached words" not in parsed.text


async def test_pdf_has_its_heading_joined_lines_list_and_pages(pool: ParserPool, tmp_path: Path) -> None:
    parsed = await read(pool, tmp_path, Kind.PDF, make_files.make_pdf())
    assert shape(parsed) == [
        ("heading", 1, make_files.TITLE),
        ("paragraph", 0, make_files.SENTENCE),
        ("list_item", 0, make_files.ITEMS[0]),
        ("paragraph", 0, make_files.SECOND_SENTENCE),
    ]
    assert [b.page for b in parsed.blocks] == [1, 1, 1, 2]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
async def test_text_is_decoded_as_it_was_encoded(pool: ParserPool, tmp_path: Path, encoding: str) -> None:
    words = "Der Fluss fließt über die Brücke – heute."
    parsed = await read(pool, tmp_path, Kind.TXT, words.encode(encoding))
    assert parsed.text == words


async def test_a_long_text_gives_the_same_structure_as_a_short_one(pool: ParserPool, tmp_path: Path) -> None:
    section = f"RESULTS\n\n{make_files.SENTENCE}\n\n- one thing\n\n"
    short = shape(await read(pool, tmp_path, Kind.TXT, section.encode()))
    long = shape(await read(pool, tmp_path, Kind.TXT, (section * 2_000).encode()))
    assert len(long) == 6_000
    assert long == short * 2_000


async def test_the_same_file_gives_the_same_result_twice(pool: ParserPool, tmp_path: Path) -> None:
    first = await read(pool, tmp_path, Kind.DOCX, make_files.make_docx())
    assert await read(pool, tmp_path, Kind.DOCX, make_files.make_docx()) == first


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        (Kind.PDF, make_files.make_encrypted_pdf(), "encrypted"),
        (Kind.DOCX, make_files.make_encrypted_office(), "encrypted"),
        (Kind.PDF, make_files.make_corrupt("pdf"), "corrupt"),
        (Kind.DOCX, make_files.make_corrupt("docx"), "corrupt"),
        (Kind.XLSX, make_files.make_docx(), "corrupt"),
        (Kind.DOCX, make_files.with_part(make_files.make_docx(), "word/document.xml", b"<a"), "corrupt"),
        (Kind.DOCX, make_files.make_zip_bomb_docx(), "bomb"),
        (
            Kind.DOCX,
            make_files.with_part(make_files.make_docx(), "word/document.xml", make_files.BILLION_LAUGHS),
            "bomb",
        ),
        (
            Kind.DOCX,
            make_files.with_part(make_files.make_docx(), "word/document.xml", make_files.EXTERNAL_ENTITY),
            "bomb",
        ),
        (Kind.HTML, b"<html><body>" + b"<div>" * 200_000 + b"deep" + b"</div>" * 200_000, "bomb"),
        (Kind.TXT, b" \n ", "empty"),
        (Kind.HTML, b"<html><body><script>1</script></body></html>", "empty"),
        (Kind.PDF, make_files.write_pdf([[]]), "empty"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else None,
)
async def test_a_file_without_text_says_why(
    pool: ParserPool, tmp_path: Path, kind: Kind, data: bytes, reason: str
) -> None:
    failed = await attempt(pool, tmp_path, kind, data)
    assert isinstance(failed, ParseFailure), failed
    assert failed.reason == reason
    assert "Traceback" not in failed.detail


async def test_the_sentence_model_needs_no_distribution_of_its_own(pool: ParserPool) -> None:
    # The very condition under which unstructured would reach for the internet.
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.distribution("en_core_web_sm")
    assert pool.children
