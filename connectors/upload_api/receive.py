"""A multipart body from the wire to a file in the spool: counted while it comes, never whole in memory.

Before this: `runtime/web/body_guard.py`. After this: `uploads.py` looks at what arrived. Format: RFC 7578.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from runtime.filetypes import HEAD_BYTES
from runtime.web.problem_fields import FieldError
from runtime.web.problems import Problem

MAX_FIELD_BYTES = 262_144
MAX_FIELDS = 16
_FILENAME_LIMIT = 255


@dataclass(frozen=True)
class Received:
    """What arrived: the fields as text, and the file (in the spool) with its size, digest and first bytes."""

    fields: dict[str, str]
    path: Path
    filename: str
    size: int
    sha256: str
    head: bytes


async def receive(content_type: str, body: AsyncIterator[bytes], spool: Path, max_bytes: int) -> Received:
    """Read the body to its end. The caller owns the returned file and removes it; after an error there is none.

    Raises Problem: no multipart, broken framing, no field `file` or two of them, too large, spool full.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise Problem(
            "unsupported-media-type",
            "Send the file as multipart/form-data, in a field `file` (curl: `-F file=@report.pdf`).",
        )
    path = spool / f"{secrets.token_hex(16)}.part"
    try:
        form = await _spool(body, boundary, path, max_bytes)
        return Received(form.fields, path, form.whole_name(), form.size, form.digest.hexdigest(), bytes(form.head))
    except BaseException:
        path.unlink(missing_ok=True)
        raise


async def _spool(body: AsyncIterator[bytes], boundary: bytes, path: Path, max_bytes: int) -> _Form:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Blocking writes of at most one network buffer each, into the page cache.
        with path.open("xb") as target:
            form = _Form(target, max_bytes)
            parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
            async for chunk in body:
                parser.write(chunk)
            parser.finalize()
            return form
    except ClientDisconnect as error:
        raise Problem("malformed-request", "The caller hung up before the body was whole.") from error
    except MultipartParseError as error:
        raise Problem("malformed-request", f"The multipart body is broken: {error}") from error
    except OSError as error:
        raise Problem(
            "unavailable", f"The file cannot be received: {error.strerror}.", headers={"Retry-After": "10"}
        ) from error


def missing_field(name: str, fix: str) -> Problem:
    """A required field is not there."""
    return invalid_field(name, "is missing", fix)


def invalid_field(name: str, message: str, fix: str) -> Problem:
    """One field is wrong."""
    return Problem("validation-failed", f"{name} {message}: {fix}.", errors=[FieldError(name, message, fix)])


def clean_filename(raw: str) -> str:
    """The last component of a path of either kind, without control characters; empty if nothing is left."""
    name = re.split(r"[/\\]", raw)[-1]
    name = "".join(char for char in unicodedata.normalize("NFC", name) if unicodedata.category(char)[0] != "C")
    name = name.strip()[-_FILENAME_LIMIT:]
    return "" if name in (".", "..") else name


@dataclass
class _Form:
    """Takes the parser's callbacks, one part after another."""

    target: IO[bytes]
    max_bytes: int
    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    size: int = 0
    head: bytearray = field(default_factory=bytearray)
    complete: bool = False
    parts: int = 0

    def __post_init__(self) -> None:
        self.digest = hashlib.sha256()
        self._headers: dict[bytes, bytes] = {}
        self._header_name = self._header_value = b""
        self._name = ""
        self._value = bytearray()
        self._in_file = False

    def whole_name(self) -> str:
        """The file's name, once everything arrived. Raises Problem if something did not."""
        if not self.complete:
            raise Problem("malformed-request", "The multipart body ends before its closing boundary: send it whole.")
        if self.filename is None:
            raise missing_field("file", "add a part named `file` with a filename")
        return self.filename

    def callbacks(self) -> dict[str, object]:
        """As python-multipart wants them."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._grow_name(data[start:end]),
            "on_header_value": lambda data, start, end: self._grow_value(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": lambda data, start, end: self._take(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self.parts += 1
        if self.parts > MAX_FIELDS:
            raise Problem("validation-failed", f"More than {MAX_FIELDS} parts: send only the fields that /docs names.")
        self._headers, self._value = {}, bytearray()

    def _grow_name(self, data: bytes) -> None:
        self._header_name += data

    def _grow_value(self, data: bytes) -> None:
        self._header_value += data

    def _end_header(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._in_file = self._name == "file"
        if not self._in_file:
            if self._name in self.fields:
                raise invalid_field(self._name[:80], "is given twice", "send it once")
            return
        if self.filename is not None:
            raise invalid_field("file", "is given twice", "send one file a request")
        if b"filename" not in options:
            raise invalid_field("file", "is no file", "send it with a filename (curl: `-F file=@report.pdf`)")
        self.filename = clean_filename(options[b"filename"].decode("utf-8", "replace"))

    def _take(self, data: bytes) -> None:
        if not self._in_file:
            self._value += data
            if len(self._value) > MAX_FIELD_BYTES:
                raise invalid_field(self._name[:80], f"is longer than {MAX_FIELD_BYTES} bytes", "shorten it")
            return
        self.size += len(data)
        if self.size > self.max_bytes:
            raise too_large(self.max_bytes)
        self.target.write(data)
        self.digest.update(data)
        if len(self.head) < HEAD_BYTES:
            self.head += data[: HEAD_BYTES - len(self.head)]

    def _end(self) -> None:
        if not self._in_file:
            try:
                self.fields[self._name] = self._value.decode()
            except UnicodeDecodeError as error:
                raise invalid_field(self._name[:80], "is not UTF-8", "send it as UTF-8") from error

    def _finish(self) -> None:
        self.complete = True


def too_large(max_bytes: int) -> Problem:
    """The file is larger than the limit; the connection is closed, as the rest of it is not wanted."""
    return Problem(
        "too-large",
        f"The file is larger than {max_bytes} bytes ({max_bytes / 1_048_576:.0f} MiB): split it, or raise "
        "THALWEG_UPLOAD__MAX_BYTES.",
        errors=[FieldError("file", f"is larger than {max_bytes} bytes", "split it")],
        headers={"Connection": "close"},
        extra={"max_bytes": max_bytes},
    )
