"""A source as its YAML file declares it: which table becomes which documents.

Written by people, checked and applied by `connectors`, obeyed by the capture stage; hence it lives here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from schemas.document_names import RESERVED

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,47}$")
_KNOWLEDGE_BASE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class SourceError(ValueError):
    """A source file is wrong; the text names the field, what it holds and what it may hold."""


@dataclass(frozen=True)
class DeletedRule:
    """A row counts as deleted when `column` is not null (equals is None), or is one of `equals`."""

    column: str
    equals: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SourceSpec:
    """A checked source.

    database: where the table lives, by the name of the environment variable or file that holds its DSN; None: the
    local stack's own database. text: a template over columns. metadata: key to column. access: a text[] column, or a
    comma-separated one, of who may read; None: whoever may read the knowledge base.
    """

    name: str
    knowledge_base: str
    schema: str
    table: str
    text: str
    dsn_env: str | None = None
    key: tuple[str, ...] = ()
    title: str | None = None
    content_type: str = "text/plain"
    metadata: Mapping[str, str] | None = None
    filterable: tuple[str, ...] | None = None
    access: str | None = None
    deleted: DeletedRule | None = None
    snapshot: bool = True

    @property
    def topic_prefix(self) -> str:
        """Debezium's topic.prefix: one for each source, so that sources never share a slot or a topic."""
        return f"cdc.{self.name}"

    @property
    def topic(self) -> str:
        """The topic of the table's changes, as Debezium names it."""
        return f"{self.topic_prefix}.{self.schema}.{self.table}"

    @property
    def connector(self) -> str:
        """The connector's name in Kafka Connect."""
        return f"thalweg-{self.name}"

    @property
    def stream(self) -> str:
        """The stream of this source's positions (records.Position)."""
        return f"cdc/{self.name}"

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns that the text template names, in order."""
        return tuple(dict.fromkeys(_PLACEHOLDER.findall(self.text)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column the source uses, key first."""
        used = [*self.key, *self.text_columns, *(self.metadata or {}).values()]
        used += [c for c in (self.title, self.access, self.deleted.column if self.deleted else None) if c]
        return tuple(dict.fromkeys(used))

    def render_text(self, row: Mapping[str, object]) -> str:
        """The document's text from a row; a NULL column is empty. Raises KeyError for a column the row lacks."""
        return _PLACEHOLDER.sub(lambda m: "" if row[m.group(1)] is None else str(row[m.group(1)]), self.text).strip()


_FIELDS = {
    "name", "knowledge_base", "table", "dsn_env", "key", "text", "title", "content_type", "metadata", "filterable",
    "access", "deleted", "snapshot",
}  # fmt: skip


def parse_source(text: str, file: str = "source") -> SourceSpec:
    """A source from its YAML. Raises SourceError, which names file, field and fix."""
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SourceError(f"{file}: not YAML: {error}") from error
    if not isinstance(raw, dict):
        raise SourceError(f"{file}: holds no mapping; give at least name, knowledge_base, table and text")
    if unknown := set(raw) - _FIELDS:
        raise SourceError(f"{file}: unknown fields {sorted(unknown)}; known are {sorted(_FIELDS)}")
    if missing := {"name", "knowledge_base", "table", "text"} - set(raw):
        raise SourceError(f"{file}: missing fields {sorted(missing)}")
    name, base = str(raw["name"]), str(raw["knowledge_base"])
    if not _NAME.fullmatch(name) or f"{name}:" == RESERVED:
        raise SourceError(f"{file}: name: {name!r} is not 1-48 of a-z, 0-9, _ and a letter first; `source` is taken")
    if not _KNOWLEDGE_BASE.fullmatch(base):
        raise SourceError(f"{file}: knowledge_base: {base!r} is not 1-100 letters, digits, _ . -")
    schema, _, table = str(raw["table"]).rpartition(".")
    return SourceSpec(
        name=name,
        knowledge_base=base,
        schema=schema or "public",
        table=table,
        dsn_env=None if raw.get("dsn_env") is None else str(raw["dsn_env"]),
        key=tuple(_strings(raw.get("key", []), file, "key")),
        text=_template(raw["text"], file),
        title=None if raw.get("title") is None else str(raw["title"]),
        content_type=_content_type(raw.get("content_type", "text/plain"), file),
        metadata=_metadata(raw.get("metadata"), file),
        filterable=None if raw.get("filterable") is None else tuple(_strings(raw["filterable"], file, "filterable")),
        access=None if raw.get("access") is None else str(raw["access"]),
        deleted=_deleted(raw.get("deleted"), file),
        snapshot=bool(raw.get("snapshot", True)),
    )


def _strings(value: Any, file: str, field: str) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise SourceError(f"{file}: {field}: {value!r} is no column or list of columns")
    return values


def _template(value: Any, file: str) -> str:
    """`body`, `[title, body]` and `"{title}: {body}"` are the three ways to write it."""
    if isinstance(value, str) and _PLACEHOLDER.search(value):
        return value
    return "\n\n".join(f"{{{column}}}" for column in _strings(value, file, "text"))


def _content_type(value: Any, file: str) -> str:
    if value not in ("text/plain", "text/markdown"):
        raise SourceError(f"{file}: content_type: {value!r} is neither text/plain nor text/markdown")
    return str(value)


def _metadata(value: Any, file: str) -> dict[str, str] | None:
    if value is None:
        return None
    if isinstance(value, list):
        return {column: column for column in _strings(value, file, "metadata")}
    if isinstance(value, dict) and all(isinstance(item, str) for pair in value.items() for item in pair):
        return dict(value)
    raise SourceError(f"{file}: metadata: {value!r} is neither a list of columns nor a mapping of key to column")


def _deleted(value: Any, file: str) -> DeletedRule | None:
    if value is None:
        return None
    if isinstance(value, str):
        return DeletedRule(value)
    if isinstance(value, dict) and set(value) <= {"column", "equals"} and "column" in value:
        equals = value.get("equals")
        return DeletedRule(
            str(value["column"]),
            None if equals is None else tuple(str(item) for item in (equals if isinstance(equals, list) else [equals])),
        )
    raise SourceError(f"{file}: deleted: {value!r} is neither a column nor {{column: ..., equals: [...]}}")
