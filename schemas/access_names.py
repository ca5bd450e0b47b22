"""Who may read a document: what the values of an access list mean. The one place that decides; pure.

Before this: a form's field, JSON, a row's column. After this: records and manifests carry the result, and `runtime`
cleans a caller's own names by the same rule, so that both sides compare equal or not at all.

None (no list) means that the knowledge base decides; an empty list means nobody. What names nobody (NULL, a blank, an
empty element) admits nobody: it neither becomes a name nor makes a list disappear.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MAX_NAME = 200
"""Characters of one name of a user or group."""


def access_name(value: object) -> str | None:
    """The name of a user or group in the form in which names are compared; None if the value names nobody.

    Names are compared exactly, capitals included, after trimming and Unicode's normal form C.
    """
    if value is None:
        return None
    return unicodedata.normalize("NFC", str(value)).strip() or None


def access_names(value: str | Iterable[object] | None) -> list[str] | None:
    """The list's names, each once and sorted, from a list, or from a text with commas between names."""
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    return sorted({name for part in parts if (name := access_name(part)) is not None})
