import pytest

from runtime.filetypes import HEAD_BYTES, Kind, detect
from tests.fixtures import make_files


@pytest.mark.parametrize("kind", list(Kind))
def test_a_file_of_each_kind_is_known_by_its_content_and_extension(kind: Kind) -> None:
    assert detect(f"report.{kind}", make_files.MAKERS[kind]()[:HEAD_BYTES]) is kind


@pytest.mark.parametrize("kind", [Kind.PDF, Kind.DOCX, Kind.PPTX, Kind.XLSX, Kind.HTML])
@pytest.mark.parametrize("name", ["report.txt", "report", "report.exe", "report.pdf"])
def test_a_signature_outweighs_the_name(kind: Kind, name: str) -> None:
    assert detect(name, make_files.MAKERS[kind]()[:HEAD_BYTES]) is kind


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"MZ\x90\x00\x03\x00\x00\x00" + bytes(range(256)) * 8, id="windows program"),
        pytest.param(b"\x7fELF\x02\x01\x01" + b"\x00" * 64, id="linux program"),
        pytest.param(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", id="image"),
        pytest.param(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 100, id="old office"),
        pytest.param(bytes(range(128, 256)) * 8 + bytes(range(1, 9)) * 40, id="noise without zeros"),
        pytest.param(rb"{\rtf1\ansi text}", id="rtf"),
        pytest.param(b"%!PS-Adobe-3.0\n/x 1 def", id="postscript"),
        pytest.param(b'<?xml version="1.0"?><note>text</note>', id="xml"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg"/>', id="svg"),
        pytest.param(b"", id="nothing"),
        pytest.param(b" \n\t ", id="blank"),
    ],
)
@pytest.mark.parametrize("name", ["report.txt", "report.md", "report.pdf", "report.docx"])
def test_what_is_not_an_accepted_kind_is_refused_under_any_name(head: bytes, name: str) -> None:
    assert detect(name, head) is None


def test_an_archive_that_is_no_office_file_is_refused() -> None:
    plain = make_files.with_part(make_files.make_docx(), "a.txt", b"x")
    stripped = plain.replace(b"[Content_Types].xml", b"[Content_Types].xmm").replace(b"word/", b"wird/")
    assert detect("report.docx", stripped) is None


def test_a_docx_inside_a_plain_archive_does_not_make_it_one() -> None:
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("inner.docx", make_files.make_docx())
    assert detect("report.docx", out.getvalue()) is None


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("notes.md", "# A heading", Kind.MD),
        ("notes.csv", "a,b\n1,2", Kind.CSV),
        ("notes.tsv", "a\tb\n1\t2", Kind.CSV),
        ("notes", "a,b\n1,2", Kind.TXT),
        ("notes.json", '{"a": 1}', Kind.TXT),
        ("page.html", "just words, no tag", Kind.TXT),
        ("page.html", "<p>words</p>", Kind.HTML),
        ("mail.eml", "no header here", Kind.TXT),
        ("mail", "From: a\nTo: b\nSubject: c\n\nwords", Kind.EML),
        ("mail.txt", "From: a\nTo: b\nSubject: c\n\nwords", Kind.TXT),
        ("C:\\folder\\notes.MD", "words", Kind.MD),
    ],
)
def test_the_name_chooses_among_text_kinds(name: str, text: str, kind: Kind) -> None:
    assert detect(name, text.encode()) is kind


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_is_known_in_its_usual_encodings(encoding: str) -> None:
    assert detect("a.txt", "Fließt über die Brücke – für heute.".encode(encoding)) is Kind.TXT


def test_a_character_cut_by_the_end_of_the_head_is_no_fault() -> None:
    text = ("水" * HEAD_BYTES).encode()
    assert detect("a.txt", text[:HEAD_BYTES]) is Kind.TXT
