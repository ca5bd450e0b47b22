"""The check of an office file before any parser sees it: bombs, hidden entities, locked archives. Pure.

Before it: the file's bytes. After it: partition.py. Sizes written in an archive are its author's claims, so bytes are
counted while they are inflated, and nothing is kept but the archive that lies inside another.
"""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from streams.parsing.result import Refused


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold, those inside it included. Real office files stay far below each."""

    entries: int = 10_000
    entry_bytes: int = 134_217_728  # 128 MiB: a sheet of a million rows
    total_bytes: int = 268_435_456  # 256 MiB: what inflates within about a second
    ratio: int = 250  # deflate's best is 1032; repetitive sheets come to about 100
    ratio_from_bytes: int = 4_194_304  # 4 MiB: below it a high ratio does no harm
    nesting: int = 2  # a workbook embedded in a slide is 1
    nested_bytes: int = 33_554_432  # 32 MiB: an archive inside is held in memory while it is looked into


_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_CENTRAL = b"PK\x01\x02"
_STEP = 262_144
_OVERLAP = 64  # bytes carried over between two steps, so that no mark is cut in two

# ECMA-376 part 2 forbids document type declarations in XML parts. They are how entities are declared, which expand
# without bound or read files. Parts of other names may be read as XML too, if the file's list of contents says so;
# but PowerPoint's printer settings carry a harmless type declaration, so there only entities are refused.
_MARKS_ENTITY = tuple("<!ENTITY".encode(e) for e in ("ascii", "utf-16-le", "utf-16-be"))
_MARKS_DOCTYPE = tuple("<!DOCTYPE".encode(e) for e in ("ascii", "utf-16-le", "utf-16-be"))
_XML_ENCODING = re.compile(rb"""<\?xml[^>]{0,200}?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_KNOWN_ENCODINGS = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"windows-1252", b"utf-16"})
_XML_STARTS = (b"<", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b" ", b"\t", b"\r", b"\n")
# UTF-32 with its byte order mark or without, and EBCDIC.
_HIDING_STARTS = (b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff", b"<\x00\x00\x00", b"\x00\x00\x00<", b"\x4c\x6f\xa7\x94")


def check_archive(data: bytes, limits: Limits | None = None) -> None:
    """Pass over an office file, or refuse it.

    Raises:
        Refused: 'bomb', 'encrypted', 'corrupt' or 'unsupported', with the reason in words.
    """
    if data.startswith(_OLE):
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise Refused("encrypted", "the file is protected by a password; upload it without one")
        raise Refused("unsupported", "an office file of the old binary format; save it as docx, pptx or xlsx")
    limits = limits or Limits()
    _Inspection(limits).look_into(data, depth=0)


class _Inspection:
    """One walk over an archive and those inside it, with the totals so far."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entries = 0
        self._total = 0

    def look_into(self, data: bytes, depth: int) -> None:
        limits = self._limits
        if depth > limits.nesting:
            raise Refused("bomb", f"archives lie more than {limits.nesting} deep inside each other")
        # Counted before zipfile builds an object for each: a small archive can name half a million.
        self._entries += data.count(_CENTRAL)
        if self._entries > limits.entries:
            raise Refused("bomb", f"the archive names more than {limits.entries} entries")
        try:
            entries = sorted(zipfile.ZipFile(BytesIO(data)).infolist(), key=lambda e: e.header_offset)
        except (zipfile.BadZipFile, ValueError, OverflowError, struct.error, NotImplementedError, EOFError) as broken:
            raise Refused("corrupt", "the file is damaged: its archive directory cannot be read") from broken
        inside: list[bytes] = []
        end_before = 0
        for entry in entries:
            start = _data_offset(data, entry)
            if entry.header_offset < end_before:
                raise Refused("bomb", "entries of the archive overlap")
            end_before = start + entry.compress_size
            nested = self._count(entry, data[start:end_before])
            if nested is not None:
                inside.append(nested)
        for nested in inside:
            self.look_into(nested, depth + 1)

    def _count(self, entry: zipfile.ZipInfo, packed: bytes) -> bytes | None:
        """Inflate one entry, counting and looking for entities; gives it back when it is an archive itself."""
        limits, size, tail = self._limits, 0, b""
        is_xml_part = entry.filename.lower().endswith((".xml", ".rels", ".vml"))
        nested: list[bytes] | None = None
        for piece in _inflated(entry, packed):
            if size == 0:
                nested = [] if piece.startswith(b"PK\x03\x04") else None
                _check_encoding(piece, is_xml_part=is_xml_part)
            size += len(piece)
            self._total += len(piece)
            if size > limits.entry_bytes or self._total > limits.total_bytes:
                raise Refused("bomb", f"unpacked, the file is larger than {limits.total_bytes >> 20} MiB")
            if size > limits.ratio_from_bytes and size > limits.ratio * max(len(packed), 1):
                raise Refused("bomb", f"an entry unpacks to more than {limits.ratio} times its size")
            if size > entry.file_size:
                raise Refused("bomb", "an entry is larger than the archive says")
            window = tail + piece
            marks = _MARKS_ENTITY + _MARKS_DOCTYPE if is_xml_part else _MARKS_ENTITY
            if any(mark in window for mark in marks):
                raise Refused("bomb", "the file declares XML entities, which office files never need")
            tail = window[-_OVERLAP:]
            if nested is not None:
                if size > limits.nested_bytes:
                    raise Refused("bomb", "an archive inside the file is too large to be looked into")
                nested.append(piece)
        if size != entry.file_size:
            raise Refused("corrupt", "the file is damaged: an entry ends early")
        return b"".join(nested) if nested is not None else None


def _inflated(entry: zipfile.ZipInfo, packed: bytes) -> Iterator[bytes]:
    """The entry's bytes in steps, whatever its header claims of their number."""
    if entry.flag_bits & 1:
        raise Refused("encrypted", "the file is protected by a password; upload it without one")
    if entry.compress_type == zipfile.ZIP_STORED:
        yield from (packed[at : at + _STEP] for at in range(0, len(packed), _STEP))
        return
    if entry.compress_type != zipfile.ZIP_DEFLATED:
        raise Refused("unsupported", "the archive uses a compression that office files do not")
    inflater = zlib.decompressobj(-15)
    rest = packed
    try:
        while not inflater.eof:
            piece = inflater.decompress(rest, _STEP)
            rest = inflater.unconsumed_tail
            if piece:
                yield piece
            elif not rest:
                return
    except zlib.error as broken:
        raise Refused("corrupt", "the file is damaged: an entry cannot be unpacked") from broken


def _data_offset(data: bytes, entry: zipfile.ZipInfo) -> int:
    """Where the entry's bytes begin, by its local header (APPNOTE.TXT 4.3.7)."""
    at = entry.header_offset
    if at < 0 or data[at : at + 4] != b"PK\x03\x04" or at + 30 > len(data):
        raise Refused("corrupt", "the file is damaged: an entry has no header")
    name_length, extra_length = struct.unpack_from("<HH", data, at + 26)
    return int(at + 30 + name_length + extra_length)


def _check_encoding(start: bytes, *, is_xml_part: bool) -> None:
    """Refuse XML in an encoding in which the marks above would not be seen."""
    declared = _XML_ENCODING.search(start[:512].replace(b"\x00", b""))
    strange = declared is not None and declared[1].lower() not in _KNOWN_ENCODINGS
    hidden = start.startswith(_HIDING_STARTS)
    unlike_xml = is_xml_part and not (start.startswith(_XML_STARTS) or start[:2] in {b"\x00<", b"<\x00"})
    if strange or hidden or unlike_xml:
        raise Refused("unsupported", "a part of the file is XML in an encoding that office files do not use")
