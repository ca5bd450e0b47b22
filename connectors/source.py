"""A source's YAML file: read, written back in full, and the address of the database it names.

Before this: `schemas/source.py` parses the text. After this: `preflight.py` checks it against the database.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from schemas.source import SourceError, SourceSpec, parse_source


def load_source(file: Path) -> SourceSpec:
    """The source that a YAML file declares. Raises SourceError, which names file, field and fix."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{file}: cannot be read: {error}") from error
    return parse_source(text, str(file))


def find_dsn(spec: SourceSpec, own: str | None, environment: Mapping[str, str] | None = None) -> str:
    """The DSN of the source's database: the variable `dsn_env` names, the file that `<dsn_env>_FILE` names, or own.

    Raises SourceError if there is none. The answer holds a password: never print it.
    """
    environment = os.environ if environment is None else environment
    if spec.dsn_env is None:
        if own is None:
            raise SourceError(f"{spec.name}: dsn_env: not given, and no local database runs; name the variable")
        return own
    if given := environment.get(spec.dsn_env):
        return given
    file = Path(environment.get(f"{spec.dsn_env}_FILE") or spec.dsn_env)
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SourceError(
            f"{spec.name}: dsn_env: neither a variable {spec.dsn_env} nor {spec.dsn_env}_FILE nor a readable file "
            f"{spec.dsn_env} holds the database's DSN"
        ) from error


def to_yaml(spec: SourceSpec) -> str:
    """The specification as YAML that `parse_source` reads back as the same, key included."""
    raw: dict[str, Any] = {
        "name": spec.name,
        "knowledge_base": spec.knowledge_base,
        "table": f"{spec.schema}.{spec.table}",
        "key": list(spec.key),
        "text": spec.text,
        "title": spec.title,
        "content_type": spec.content_type,
        "metadata": None if spec.metadata is None else dict(spec.metadata),
        "filterable": None if spec.filterable is None else list(spec.filterable),
        "access": spec.access,
        "dsn_env": spec.dsn_env,
        "snapshot": spec.snapshot,
    }
    if spec.deleted is not None:
        rule: dict[str, Any] = {"column": spec.deleted.column}
        if spec.deleted.equals is not None:
            rule["equals"] = list(spec.deleted.equals)
        raw["deleted"] = rule
    return yaml.safe_dump({k: v for k, v in raw.items() if v is not None}, sort_keys=True, allow_unicode=True)
