"""May today's schemas read what an earlier state of the tree wrote? Judged offline, with Apache Avro's own rules.

Before this: `avro/*.avsc` and a git ref. After this: `thalweg schemas check --against REF`, and the tests. The registry
judges the same against what is registered (`registry.py`); this needs no server, so it belongs in a review.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

FOLDER = "schemas/avro"


class NothingCompared(Exception):
    """There was no earlier schema: a check that looked at nothing must not pass."""


def incompatibility(reader: Mapping[str, Any], writer: Mapping[str, Any]) -> str | None:
    """Why the reader's schema cannot read the writer's records, None if it can."""
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(
        reader=avro.schema.parse(json.dumps(reader)), writer=avro.schema.parse(json.dumps(writer))
    )
    if result.compatibility is SchemaCompatibilityType.compatible:
        return None
    return "; ".join(sorted(str(message) for message in result.messages)) or "incompatible"


def against_ref(ref: str, root: Path) -> dict[str, str | None]:
    """For each schema file of a git ref of the checkout at `root`: why it can't be read now, None if it can.

    A file that is gone cannot be read. Raises NothingCompared if the ref is unknown or holds no schema.
    """
    listed = _git(root, "ls-tree", "--name-only", ref, f"{FOLDER}/")
    names = [name for name in (listed or "").splitlines() if name.endswith(".avsc")]
    if not names:
        raise NothingCompared(f"{ref} is no commit of {root}, or holds nothing in {FOLDER}")
    found: dict[str, str | None] = {}
    for name in names:
        now = root / name
        then = json.loads(_git(root, "show", f"{ref}:{name}") or "null")
        found[name] = incompatibility(json.loads(now.read_text()), then) if now.exists() else "the schema is gone"
    return found


def _git(root: Path, *arguments: str) -> str | None:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None
