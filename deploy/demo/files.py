"""A text as a file of another kind: table, page, office file, mail, PDF.

Before: `corpus` has the text. After: the upload API gets the bytes, and the parse stage reads the text out of them.
"""

from __future__ import annotations

import csv
import importlib
import inspect
import io
import pydoc
import re
from collections.abc import Iterable, Sequence
from email.message import EmailMessage

_PAGE_LINES = 52
_LINE_CHARACTERS = 92


def csv_text(table: Iterable[Sequence[str]]) -> str:
    """Comma-separated values, header first."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(table)
    return out.getvalue()


def module_page(name: str) -> str:
    """A module's documentation as pydoc renders it to HTML, without paths and addresses, which differ by run."""
    maker = pydoc.HTMLDoc()
    page = maker.page(f"Module {name}", maker.docmodule(importlib.import_module(name)))
    return re.sub(r'<a href="file:[^"]*">.*?</a>| at 0x[0-9a-f]+', "", page, flags=re.DOTALL)


def functions_text(name: str) -> str:
    """What a module's functions and classes say of themselves, two empty lines between them, the name first."""
    found = importlib.import_module(name)
    told = {item: inspect.getdoc(value) for item, value in sorted(vars(found).items()) if not item.startswith("_")}
    return "\n\n\n".join(f"{name}.{item}\n{text}" for item, text in told.items() if text)


def xlsx(text: str) -> bytes:
    """A workbook of one sheet, from comma-separated values."""
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for row in csv.reader(io.StringIO(text)):
        sheet.append([int(cell) if cell.isdecimal() else cell for cell in row])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def docx(text: str) -> bytes:
    """A Word file: the first line is its heading, each paragraph one of its own."""
    import docx as word

    document = word.Document()
    heading, _, rest = text.partition("\n")
    document.add_heading(heading, 1)
    for paragraph in _paragraphs(rest):
        document.add_paragraph(paragraph)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def pptx(text: str) -> bytes:
    """A slide for each part of the text (two empty lines between them); a part's first line is the slide's title."""
    import pptx as slides

    deck = slides.Presentation()
    for part in text.split("\n\n\n"):
        title, _, body = part.partition("\n")
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = " ".join(body.split())
    out = io.BytesIO()
    deck.save(out)
    return out.getvalue()


def eml(text: str) -> bytes:
    """A mail whose subject is the text's first line."""
    mail = EmailMessage()
    mail["From"], mail["To"] = "Reference desk <desk@example.org>", "readers@example.org"
    mail["Subject"], mail["Date"] = text.partition("\n")[0], "Mon, 05 Jan 2026 09:00:00 +0000"
    mail.set_content(text)
    return mail.as_bytes()


def pdf(text: str) -> bytes:
    """A PDF 1.4 with the text in Helvetica, the first line large (ISO 32000-1, 7.5 and 9.4)."""
    lines = [part for line in text.splitlines() for part in _wrapped(line)]
    pages = [lines[start : start + _PAGE_LINES] for start in range(0, len(lines), _PAGE_LINES)] or [[]]
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, page in enumerate(pages):
        stream = _page_stream(page, large=number == 0)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R "
            f"/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n".encode() + stream + b"\nendstream")
    return _pdf_file(objects)


def _page_stream(lines: Sequence[str], *, large: bool) -> bytes:
    told = ["BT", "/F1 11 Tf", "13 TL", "60 740 Td"]
    for number, line in enumerate(lines):
        escaped = line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        first = large and number == 0
        told.append(f"/F1 20 Tf ({escaped}) Tj 0 -26 Td /F1 11 Tf" if first else f"({escaped}) Tj T*")
    return "\n".join([*told, "ET"]).encode("cp1252", errors="replace")


def _pdf_file(objects: Sequence[bytes]) -> bytes:
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    out += f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\n".encode()
    return bytes(out + f"startxref\n{out.index(b'xref')}\n%%EOF\n".encode())


def _wrapped(line: str) -> list[str]:
    """The line in pieces that fit the page; an empty line stays one."""
    pieces = [line]
    while len(pieces[-1]) > _LINE_CHARACTERS:
        last = pieces.pop()
        cut = last.rfind(" ", 1, _LINE_CHARACTERS) if " " in last[1:_LINE_CHARACTERS] else _LINE_CHARACTERS
        pieces += [last[:cut], last[cut:].lstrip()]
    return pieces


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]
