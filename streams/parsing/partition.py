"""One file to its text: the choice of a partitioner, and its elements made into blocks. Runs in the child.

Before it: child.py, which has limited this process. After it: `result.assemble`, then the pipe to the pool.
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from pathlib import Path

from runtime.filetypes import Kind
from streams.parsing.elements import NO_LANGUAGES, SENTENCE_END, pieces, through_html
from streams.parsing.guard import check_archive
from streams.parsing.pdf import partition_pdf
from streams.parsing.result import ParsedText, ParseFailure, Piece, Refused, assemble
from streams.parsing.sentences import SentenceModels
from streams.parsing.tables import csv_pieces, workbook_pieces

# Plain text up to here is classified by the trained model, at 40 KB/s (1.6 s at most). Beyond, unstructured's way
# has no value left that would be worth minutes: the same few rules, applied here to each paragraph, give the same
# lists and nearly the same headings at 4 MB/s.
_TRAINED_UP_TO = 65_536  # bytes
_HEADING_WORDS = 12  # unstructured's own bound for a title

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?\n)?(---|\.\.\.)[ \t]*(\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*[\"']?(.+?)[\"']?[ \t]*$", re.MULTILINE)
_HTML_TITLE = re.compile(r"<title[^>]{0,200}>(.{0,1000}?)</title>", re.IGNORECASE | re.DOTALL)
_HTML_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([A-Za-z0-9_-]+)", re.IGNORECASE)

Parsed = tuple[Iterable[Piece], str | None, dict[str, str]]


def parse_file(path: Path, kind: Kind, models: SentenceModels, *, max_text_bytes: int) -> ParsedText | ParseFailure:
    """Turn a file into text. Everything a file can do wrong is told as a ParseFailure, except the death of the process.

    Args:
        path: the file; its name does not matter.
        kind: what `runtime.filetypes.detect` said.
        models: see sentences.py.
        max_text_bytes: longest text in UTF-8; a longer one is 'too_large'.
    """
    try:
        return _parsed(path, kind, models, max_text_bytes)
    except Refused as refused:
        return refused.failure
    except MemoryError:
        return ParseFailure("memory", "reading the file needs more memory than one file may take")
    except RecursionError:
        return ParseFailure("bomb", "the file is nested too deep")
    except Exception as error:  # noqa: BLE001 - whatever a parser throws at a damaged file is that file's failure
        # The type alone: parsers quote the document in their messages.
        return ParseFailure("corrupt", f"the file is damaged: it cannot be read as {kind} ({type(error).__name__})")


def _parsed(path: Path, kind: Kind, models: SentenceModels, max_text_bytes: int) -> ParsedText:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refused("crashed", f"the uploaded file cannot be opened: {error.strerror}") from error
    if not data.strip():
        raise Refused("empty", "the file is empty")
    if kind in {Kind.DOCX, Kind.PPTX, Kind.XLSX}:
        check_archive(data)
    models.use(full=kind is Kind.TXT)
    found, title, metadata = _PARTITIONERS[kind](path, data)
    parsed = assemble(found, title=title, metadata=metadata, heading_is_title=kind is not Kind.XLSX)
    if not parsed.text:
        scanned = "its pages hold images" if kind is Kind.PDF else "it holds images or nothing"
        raise Refused("empty", f"the file has no text: {scanned}, and text in images is not read")
    size = len(parsed.text.encode())
    if size > max_text_bytes:
        raise Refused("too_large", f"the text has {size} bytes, {max_text_bytes} are the limit; split the file")
    return parsed


def _text(_: Path, data: bytes) -> Parsed:
    from unstructured.partition.text import partition_text

    text = decode(data)
    if len(data) > _TRAINED_UP_TO:
        return _long_text(text), None, {}
    elements = partition_text(text=text, languages=NO_LANGUAGES)
    return pieces(elements, guessed_headings=True), None, {}


def _long_text(text: str) -> Iterator[Piece]:
    from unstructured.cleaners.core import auto_paragraph_grouper, clean_bullets
    from unstructured.nlp.patterns import PARAGRAPH_PATTERN
    from unstructured.partition.text_type import is_bulleted_text, is_possible_numbered_list, under_non_alpha_ratio

    for paragraph in re.split(PARAGRAPH_PATTERN, auto_paragraph_grouper(text).strip()):
        if is_bulleted_text(paragraph):
            yield Piece("list_item", clean_bullets(paragraph))
        elif is_possible_numbered_list(paragraph):
            yield Piece("list_item", paragraph)
        else:
            short = len(paragraph) < 200 and len(paragraph.split()) <= _HEADING_WORDS
            heading = short and not paragraph.rstrip().endswith(SENTENCE_END) and not under_non_alpha_ratio(paragraph)
            yield Piece("heading", paragraph, 1) if heading else Piece("paragraph", paragraph)


def _markdown(_: Path, data: bytes) -> Parsed:
    from unstructured.partition.md import partition_md

    text, title = decode(data).replace("\r\n", "\n"), None
    # Left in, the block's closing line would make a heading of the line above it.
    if front := _FRONT_MATTER.match(text):
        text = text[front.end() :]
        if named := _FRONT_TITLE.search(front[1] or ""):
            title = named[1]
    elements = through_html(partition_md, text=text) if text.strip() else []
    return pieces(elements), title, {}


def _html(_: Path, data: bytes) -> Parsed:
    from unstructured.partition.html import partition_html

    charset = _HTML_CHARSET.search(data[:4096])
    text = decode(data, charset[1].decode() if charset else None)
    elements = through_html(partition_html, text=text)
    titled = _HTML_TITLE.search(text)
    return pieces(elements), html.unescape(titled[1]) if titled else None, {}


def _pdf(path: Path, _: bytes) -> Parsed:
    elements, properties = partition_pdf(path)
    return pieces(elements), properties.pop("title", None), properties


def _docx(_: Path, data: bytes) -> Parsed:
    from unstructured.partition.docx import partition_docx

    elements = partition_docx(file=BytesIO(data), include_page_breaks=False, languages=NO_LANGUAGES)
    return pieces(elements), *_office_properties(data)


def _pptx(_: Path, data: bytes) -> Parsed:
    from unstructured.partition.pptx import partition_pptx

    elements = partition_pptx(
        file=BytesIO(data), include_page_breaks=False, include_slide_notes=True, languages=NO_LANGUAGES
    )
    # Only a slide's title shape is a heading; unstructured guesses at deeper ones among the bullets.
    return pieces(elements, deepest_heading=0), *_office_properties(data)


def _xlsx(_: Path, data: bytes) -> Parsed:
    return list(workbook_pieces(data)), *_office_properties(data)


def _csv(_: Path, data: bytes) -> Parsed:
    return csv_pieces(decode(data)), None, {}


def _email(_: Path, data: bytes) -> Parsed:
    from email import message_from_bytes, policy

    from unstructured.partition.email import partition_email

    # Attachments are never opened: each is a file of its own with its own limits, or none of ours.
    elements = through_html(partition_email, file=BytesIO(data), process_attachments=False)
    headers = message_from_bytes(data.split(b"\n\n", 1)[0].split(b"\r\n\r\n", 1)[0], policy=policy.default)
    metadata = {name: str(headers[name]) for name in ("from", "to", "cc", "date", "subject") if headers[name]}
    return pieces(elements), metadata.get("subject"), metadata


_PARTITIONERS: dict[Kind, Callable[[Path, bytes], Parsed]] = {
    Kind.TXT: _text,
    Kind.MD: _markdown,
    Kind.HTML: _html,
    Kind.PDF: _pdf,
    Kind.DOCX: _docx,
    Kind.PPTX: _pptx,
    Kind.XLSX: _xlsx,
    Kind.CSV: _csv,
    Kind.EML: _email,
}


def decode(data: bytes, declared: str | None = None) -> str:
    """Bytes of a text file as text: by byte order mark, then as UTF-8, as declared, or as Windows-1252."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace")
    for encoding in filter(None, ("utf-8", declared)):
        try:
            return data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return data.decode("cp1252", errors="replace")


def _office_properties(data: bytes) -> tuple[str | None, dict[str, str]]:
    """(title, metadata) from docProps/core.xml (ECMA-376 part 2), which all three office formats carry."""
    import zipfile

    from lxml import etree  # type: ignore[import-untyped]

    with zipfile.ZipFile(BytesIO(data)) as archive:
        if "docProps/core.xml" not in archive.namelist():
            return None, {}
        root = etree.fromstring(
            archive.read("docProps/core.xml"), etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
        )
    found = {etree.QName(child).localname: (child.text or "") for child in root if isinstance(child.tag, str)}
    names = {"creator": "author", "created": "created", "language": "language", "subject": "subject"}
    return found.get("title"), {ours: found[theirs] for theirs, ours in names.items() if found.get(theirs)}
