"""The demo's corpus: reference texts that come with Python and its installed packages. No network, no chance in it.

Before: nothing. After: `load` puts the rows into PostgreSQL and sends the files to the upload API.
"""

from __future__ import annotations

import ast
import builtins
import errno
import hashlib
import http
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from itertools import chain, islice
from pathlib import Path
from pydoc_data.topics import topics

from deploy.demo import files

SHORTEST, LONGEST = 250, 12_000
"""Characters of a row. Above it a text is left out: two dozen chunks show as much as two hundred, and load faster."""

FILE_LONGEST = 6_000
"""Characters of a text in a file; a longer one is cut after a paragraph."""

_MODULES = (
    *("argparse", "bisect", "calendar", "codecs", "collections", "contextlib", "csv", "datetime", "difflib"),
    *("enum", "fractions", "functools", "gettext", "hashlib", "heapq", "imaplib", "ipaddress", "json"),
    *("locale", "logging", "mailbox", "mimetypes", "optparse", "pathlib", "pickle", "pickletools", "pprint", "queue"),
    *("random", "sched", "selectors", "shelve", "shlex", "smtplib", "socket", "string", "subprocess"),
    *("tempfile", "textwrap", "threading", "timeit", "tokenize", "trace", "urllib.request"),
    *("uuid", "warnings", "weakref", "zipfile"),
)
_DESCRIBED = (
    *("httpx", "structlog", "stamina", "pydantic-settings", "fastavro", "starlette", "uvicorn", "typer", "rich"),
    *("faust-streaming", "weaviate-client", "tokenizers", "attrs", "click", "fsspec", "python-multipart"),
)
_LICENCES = Path("/usr/share/common-licenses")
_LICENCE_NAMES = ("Apache-2.0", "Artistic", "BSD", "CC0-1.0", "MPL-2.0")


@dataclass(frozen=True)
class Row:
    """One row of the table demo.articles, which becomes one document."""

    id: str
    title: str
    body: str
    kind: str

    @property
    def digest(self) -> str:
        """Tells this text from every other; kept as metadata, so that the index can be asked which one it has."""
        return digest(self.title, self.body)


@dataclass(frozen=True)
class File:
    """One file for the upload API. digest: of the text it is made from, for an office file differs at each making."""

    name: str
    digest: str
    make: Callable[[], bytes] = field(compare=False, repr=False)

    @property
    def kind(self) -> str:
        """Its extension."""
        return self.name.rpartition(".")[2]


GAUGE = Row(
    id="house.gauge",
    title="The gauge at the old mill",
    body="The gauge at the old mill is read every morning at six by Ada Brook, who writes it into the blue book.",
    kind="house",
)
GAUGE_UPDATED = Row(
    id=GAUGE.id,
    title=GAUGE.title,
    body="The gauge at the old mill is read every evening at nine by Tomas Weir, who sends the level by radio.",
    kind=GAUGE.kind,
)
BRIDGE = Row(
    id="house.bridge",
    title="The footbridge at Willow Ford",
    body="The footbridge at Willow Ford is closed to ponies until the carpenter has replaced its eleventh plank.",
    kind="house",
)


def rows() -> list[Row]:
    """Python's language reference, what its modules say of themselves, and two notices that the demo changes."""
    return [*_topics(), *_modules(), GAUGE, BRIDGE]


def file_documents() -> list[File]:
    """Licences, packages' descriptions, module pages, tables, and some of it as office files, mail and PDF."""
    return list(_files())


def digest(*texts: str) -> str:
    """Twelve hex digits for these texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def module_text(name: str) -> str | None:
    """What a module of the standard library says of itself; it is read, not run. None if it is not there."""
    try:
        found = importlib.util.find_spec(name)
    except ImportError:
        return None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return None
    return ast.get_docstring(ast.parse(Path(found.origin).read_text(encoding="utf-8")))


def _topics() -> Iterator[Row]:
    for name, text in sorted(topics.items()):
        if SHORTEST <= len(text) <= LONGEST:
            yield Row(f"topic.{name}", text.strip().partition("\n")[0], text.strip(), "topic")


def _modules() -> Iterator[Row]:
    for name in _MODULES:
        text = module_text(name)
        if text is not None and SHORTEST <= len(text) <= LONGEST:
            yield Row(f"module.{name}", f"Module {name}", text.strip(), "module")


def _files() -> Iterator[File]:
    for name, text in islice(_licences(), 5):
        yield _file(f"licence-{name}.txt", text, lambda text: text.encode())
    for name, text in islice(_descriptions(), 10):
        yield _file(f"package-{name}.md", text, lambda text: text.encode())
    for name in ("colorsys", "graphlib", "sched", "textwrap"):
        yield _file(f"module-{name}.html", files.module_page(name), lambda text: text.encode(), whole=True)
    for name, table in {"http-status": _statuses(), "system-errors": _errors()}.items():
        yield _file(f"{name}.csv", files.csv_text(table), lambda text: text.encode())
    for name, table in {"exceptions": _exceptions(), "functions": _functions()}.items():
        yield _file(f"{name}.xlsx", files.csv_text(table), files.xlsx)
    yield _file("about-unittest.pdf", module_text("unittest") or "unittest", files.pdf)
    yield _file("functions-of-heapq.pdf", files.functions_text("heapq"), files.pdf)
    for name in ("turtle", "statistics"):
        yield _file(f"about-{name}.docx", module_text(name) or name, files.docx)
    for name in ("doctest", "ftplib"):
        yield _file(f"mail-about-{name}.eml", module_text(name) or name, files.eml)
    yield _file("talk-itertools.pptx", files.functions_text("itertools"), files.pptx)


def _file(name: str, text: str, make: Callable[[str], bytes], *, whole: bool = False) -> File:
    cut = text if whole else _cut(text)
    return File(name, digest(name, cut), lambda: make(cut))


def _licences() -> Iterator[tuple[str, str]]:
    """Those of the system where it has them, then those that packages carry."""
    for name in _LICENCE_NAMES:
        if (_LICENCES / name).is_file():
            yield name.lower(), (_LICENCES / name).read_text(encoding="utf-8", errors="replace")
    for found in _distributions():
        carried = [
            file for file in found.files or () if re.search(r"LICEN[CS]E[^/]*$", str(file)) and file.suffix != ".py"
        ]
        for file in sorted(carried, key=str)[:1]:
            path = Path(str(file.locate()))
            if path.is_file() and path.stat().st_size > 500:
                yield found.name.lower(), path.read_text(encoding="utf-8", errors="replace")


def _descriptions() -> Iterator[tuple[str, str]]:
    """Long descriptions in Markdown: of packages one may know, then of any."""
    known = (found for name in _DESCRIBED for found in importlib.metadata.distributions(name=name))
    told = set()
    for found in chain(known, _distributions()):
        metadata, name = found.metadata, found.name.lower()
        if name in told or not isinstance(metadata, Message):
            continue
        told.add(name)
        text = str(metadata.get_payload() or metadata.get("Description") or "")
        if "markdown" in str(metadata.get("Description-Content-Type")) and len(text) > 1_000:
            yield name, text


def _distributions() -> Iterator[importlib.metadata.Distribution]:
    """All installed, by name; nothing is read before the first is asked for."""
    yield from sorted(importlib.metadata.distributions(), key=lambda found: found.name.lower())


def _statuses() -> Iterable[tuple[str, ...]]:
    yield ("code", "phrase", "meaning")
    for status in http.HTTPStatus:
        yield (str(status.value), status.phrase, status.description)


def _errors() -> Iterable[tuple[str, ...]]:
    yield ("number", "name", "meaning")
    for number, name in sorted(errno.errorcode.items()):
        yield (str(number), name, os.strerror(number))


def _exceptions() -> Iterable[tuple[str, ...]]:
    yield ("exception", "kind of", "meaning")
    for name, found in sorted(vars(builtins).items()):
        if isinstance(found, type) and issubclass(found, BaseException) and found.__name__ == name:
            base = found.__base__
            yield (name, base.__name__ if base else "", (found.__doc__ or "").partition("\n")[0])


def _functions() -> Iterable[tuple[str, ...]]:
    yield ("function", "meaning")
    for name, found in sorted(vars(builtins).items()):
        if callable(found) and not isinstance(found, type) and not name.startswith("_") and found.__doc__:
            yield (name, found.__doc__.strip().partition("\n")[0])


def _cut(text: str) -> str:
    """At most FILE_LONGEST characters, ending with a paragraph where there is one."""
    if len(text) <= FILE_LONGEST:
        return text
    head = text[:FILE_LONGEST]
    return head[: head.rfind("\n\n")] if "\n\n" in head else head[: head.rfind("\n")]
