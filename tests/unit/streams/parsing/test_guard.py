import time
import zipfile
from collections.abc import Callable
from io import BytesIO

import pytest

from streams.parsing.guard import Limits, check_archive
from streams.parsing.result import Refused
from tests.fixtures import make_files


@pytest.mark.parametrize("make", [make_files.make_docx, make_files.make_pptx, make_files.make_xlsx])
def test_an_honest_office_file_passes(make: Callable[[], bytes]) -> None:
    check_archive(make())


@pytest.mark.parametrize("name", ["word/media/a.svg", "customXml/printer.bin"])
def test_an_embedded_file_may_name_its_document_type(name: str) -> None:
    plist = b'<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "x.dtd"><plist/>'
    check_archive(make_files.with_part(make_files.make_docx(), name, plist))


def test_a_workbook_embedded_in_a_slide_passes() -> None:
    check_archive(make_files.with_part(make_files.make_pptx(), "ppt/embeddings/a.xlsx", make_files.make_xlsx()))


@pytest.mark.parametrize(
    "make",
    [
        make_files.make_zip_bomb_docx,
        make_files.make_many_entries_docx,
        make_files.make_nested_docx,
        make_files.make_lying_docx,
        make_files.make_overlapping_docx,
    ],
)
def test_a_bomb_is_refused_within_two_seconds(make: Callable[[], bytes]) -> None:
    bomb = make()
    started = time.monotonic()
    assert refusal(bomb) == "bomb"
    assert time.monotonic() - started < 2


def test_many_entries_below_the_ratio_are_refused_by_their_sum() -> None:
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(30):
            archive.writestr(f"word/{number}.xml", b"<a>" + b"x" * 900_000 + b"</a>")
    check_archive(out.getvalue())
    assert refusal(out.getvalue(), Limits(total_bytes=20_000_000)) == "bomb"


@pytest.mark.parametrize("body", [make_files.BILLION_LAUGHS, make_files.EXTERNAL_ENTITY])
@pytest.mark.parametrize(
    "name", ["word/document.xml", "word/_rels/document.xml.rels", "word/media/a.svg", "word/x.bin"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_entities_are_refused_wherever_they_hide(body: bytes, name: str, encoding: str) -> None:
    bent = body.decode().encode(encoding)
    assert refusal(make_files.with_part(make_files.make_docx(), name, bent)) == "bomb"


def test_a_declaration_cut_by_two_inflating_steps_is_seen() -> None:
    for padding in range(262_144 - 12, 262_144 + 2):
        body = b"<a>" + b" " * (padding - 3) + b"<!ENTITY x 'y'></a>"
        assert refusal(make_files.with_part(make_files.make_xlsx(), "xl/x.xml", body)) == "bomb"


@pytest.mark.parametrize(
    "body",
    [
        b"<?xml version='1.0' encoding='UTF-7'?><a/>",
        "<a/>".encode("utf-32"),
        "<a/>".encode("utf-32-be"),
        "<?xml version='1.0'?><a/>".encode("cp500"),
    ],
)
def test_xml_in_an_encoding_that_would_hide_entities_is_refused(body: bytes) -> None:
    assert refusal(make_files.with_part(make_files.make_docx(), "word/document.xml", body)) == "unsupported"
    if body[:1] != b"<" or body[1:2] != b"?":
        return
    assert refusal(make_files.with_part(make_files.make_docx(), "word/document.bin", body)) == "unsupported"


def test_a_locked_office_file_is_called_encrypted() -> None:
    assert refusal(make_files.make_encrypted_office()) == "encrypted"


def test_an_office_file_of_the_old_format_is_unsupported() -> None:
    assert refusal(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 1000) == "unsupported"


@pytest.mark.parametrize("kind", ["docx", "pptx", "xlsx"])
def test_half_a_file_is_corrupt(kind: str) -> None:
    assert refusal(make_files.make_corrupt(kind)) == "corrupt"


def refusal(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(Refused) as caught:
        check_archive(data, limits)
    return caught.value.failure.reason
