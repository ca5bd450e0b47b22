"""Which of the accepted file types some bytes are; asked by the upload API at the door and by the parser again.

The content decides. The name only chooses among the text kinds, which have no signature of their own:
a program renamed to `report.txt` is refused, a Word file renamed to `report.txt` is a Word file.
The module is light on purpose: no parser is loaded to answer.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import PurePath

HEAD_BYTES = 65_536
"""How many of a file's first bytes `detect` wants to see; with fewer it may fail to know an office file."""


class Kind(StrEnum):
    """The file types that are accepted; anything else is refused."""

    TXT = "txt"
    MD = "md"
    HTML = "html"
    PDF = "pdf"
    DOCX = "docx"
    PPTX = "pptx"
    XLSX = "xlsx"
    CSV = "csv"
    EML = "eml"


MEDIA_TYPES: dict[Kind, str] = {
    Kind.TXT: "text/plain",
    Kind.MD: "text/markdown",
    Kind.HTML: "text/html",
    Kind.PDF: "application/pdf",
    Kind.DOCX: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    Kind.PPTX: "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    Kind.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    Kind.CSV: "text/csv",
    Kind.EML: "message/rfc822",
}

_BY_EXTENSION: dict[str, Kind] = {
    ".txt": Kind.TXT,
    ".text": Kind.TXT,
    ".log": Kind.TXT,
    ".md": Kind.MD,
    ".markdown": Kind.MD,
    ".html": Kind.HTML,
    ".htm": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".csv": Kind.CSV,
    ".tsv": Kind.CSV,
    ".eml": Kind.EML,
}

# What [Content_Types].xml says of the main part (ECMA-376 part 1), templates and macro files included:
# their text is read like any other, and macros are never run.
_OFFICE_CONTENT_TYPES: tuple[tuple[bytes, Kind], ...] = (
    (b"wordprocessingml.document.main+xml", Kind.DOCX),
    (b"wordprocessingml.template.main+xml", Kind.DOCX),
    (b"ms-word.document.macroEnabled.main+xml", Kind.DOCX),
    (b"presentationml.presentation.main+xml", Kind.PPTX),
    (b"presentationml.slideshow.main+xml", Kind.PPTX),
    (b"ms-powerpoint.presentation.macroEnabled.main+xml", Kind.PPTX),
    (b"spreadsheetml.sheet.main+xml", Kind.XLSX),
    (b"spreadsheetml.template.main+xml", Kind.XLSX),
    (b"ms-excel.sheet.macroEnabled.main+xml", Kind.XLSX),
)
_OFFICE_FOLDERS: tuple[tuple[str, Kind], ...] = (
    ("word/", Kind.DOCX),
    ("ppt/", Kind.PPTX),
    ("xl/", Kind.XLSX),
)
_CONTENT_TYPES_LIMIT = 1_048_576  # bytes inflated at most while looking; real ones have a few thousand

_HTML_START = re.compile(
    r"\s*(<\?xml[^>]*\?>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_TAG = re.compile(r"<[a-zA-Z!][^<>]*>")
_HEADER_LINE = re.compile(r"[A-Za-z][A-Za-z0-9-]*:")
_MAIL_HEADERS = frozenset(
    {"from", "to", "cc", "subject", "date", "message-id", "mime-version", "received", "return-path", "delivered-to"}
)


def detect(filename: str, head: bytes) -> Kind | None:
    """Name the kind of a file from its first bytes, or None when it is not an accepted one.

    Args:
        filename: as the uploader gave it; only its extension is looked at, and only for text.
        head: the first `HEAD_BYTES` of the file, or all of it when it is shorter.
    """
    if head.startswith(b"%PDF-"):
        return Kind.PDF
    if head.startswith(b"PK\x03\x04"):
        return _office_kind(head)
    text = _as_text(head)
    if text is None or not text.strip() or _is_other_format(text):
        return None
    return _text_kind(filename, text)


def _is_other_format(text: str) -> bool:
    """Whether this is text by its bytes and still no document: RTF, PostScript, SVG, XML other than XHTML."""
    start = text[:1024].lstrip().lower()
    if start.startswith("<?xml"):
        return "<html" not in start
    return start.startswith(("{\\rtf", "%!ps", "%!adobe", "<svg"))


def _text_kind(filename: str, text: str) -> Kind:
    named = _BY_EXTENSION.get(PurePath(filename.replace("\\", "/")).suffix.lower())
    looks_html = _HTML_START.match(text) is not None
    match named:
        case Kind.MD | Kind.CSV:
            return named
        case Kind.EML if _mail_headers(text) >= 1:
            return Kind.EML
        case Kind.HTML if looks_html or _TAG.search(text):
            return Kind.HTML
        case Kind.TXT:
            return Kind.HTML if looks_html else Kind.TXT
        case _:
            if looks_html:
                return Kind.HTML
            return Kind.EML if _mail_headers(text) >= 3 else Kind.TXT


def _mail_headers(text: str) -> int:
    """How many well-known mail headers stand in the block of header lines that the text begins with."""
    known = 0
    for line in text.lstrip("\r\n").splitlines():
        if not line.strip():
            break
        if line[0] in " \t":
            continue
        if not _HEADER_LINE.match(line):
            return 0
        known += line.split(":", 1)[0].lower() in _MAIL_HEADERS
    return known


def _as_text(head: bytes) -> str | None:
    """The head as text, or None when no text file looks like this."""
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if head.startswith(mark):
            text = head[2 : len(head) - len(head) % 2].decode(encoding, errors="replace")
            return text if text.count("\ufffd") * 100 <= len(text) and "\x00" not in text else None
    if b"\x00" in head:
        return None
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        # A character cut in two by the end of the head is no fault of the file.
        cut = len(head) - broken.start < 4 and broken.reason == "unexpected end of data"
        text = head[: broken.start].decode("utf-8-sig") if cut else head.decode("cp1252", errors="replace")
    controls = sum(1 for c in text if c == "\ufffd" or (c < " " and c not in "\t\n\r\f\x1b"))
    # One strange byte in a hundred is a log file; more of them is a program or an image.
    return text if controls * 100 <= len(text) else None


def _office_kind(head: bytes) -> Kind | None:
    by_folder: Kind | None = None
    has_types = False
    for name, method, data in _local_entries(head):
        if name == "[Content_Types].xml":
            has_types = True
            declared = _inflate(data) if method == 8 else data
            for marker, kind in _OFFICE_CONTENT_TYPES:
                if marker in declared:
                    return kind
        for folder, kind in _OFFICE_FOLDERS:
            if by_folder is None and name.startswith(folder):
                by_folder = kind
    # Some writers put the content types last, out of the head's sight: then the folders' names decide, and
    # the parser's own check of the whole archive refuses what only pretends.
    return by_folder if has_types or len(head) >= HEAD_BYTES else None


def _local_entries(head: bytes) -> Iterator[tuple[str, int, bytes]]:
    """(name, compression method, data as far as seen) of each zip entry whose local header is in the head."""
    at = 0
    while 0 <= at <= len(head) - 30 and head[at : at + 4] == b"PK\x03\x04":
        flags, method, packed, name_length, extra_length = struct.unpack_from("<6xHH8xI4xHH", head, at)
        data_at = at + 30 + name_length + extra_length
        name = head[at + 30 : at + 30 + name_length].decode("utf-8", errors="replace")
        # A streamed entry's size stands after its data.
        streamed = flags & 8 and packed == 0
        following = head.find(b"PK\x03\x04", data_at) if streamed else data_at + packed
        yield name, method, head[data_at : following if following >= 0 else len(head)]
        at = following


def _inflate(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(-15).decompress(data, _CONTENT_TYPES_LIMIT)
    except zlib.error:
        return b""
