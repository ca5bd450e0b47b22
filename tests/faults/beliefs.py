"""What somebody who believes every answer and every receipt may never see contradicted. Pure; thread-safe.

Before this: receipts and answers. After this: `wrong`, one line for each contradiction.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.records import Receipt, ReceiptStage

_ENDED = (ReceiptStage.INDEXED, ReceiptStage.DELETED)
_MOST = 20

Floor = Mapping[str, tuple[str, bool]]
"""By document: the newest version that had its receipt, and whether that was a deletion."""


class Beliefs:
    """Of one knowledge base, whose documents come by one stream each: versions sort as texts."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._lock = threading.Lock()
        self._floor: dict[str, tuple[str, bool]] = {}
        self._seen: dict[str, str] = {}
        self.wrong: list[str] = []

    def receipt(self, receipt: Receipt) -> None:
        """A receipt was read."""
        if receipt.stage in _ENDED and receipt.knowledge_base == self._base and receipt.version:
            with self._lock:
                if receipt.version >= self._floor.get(receipt.document_id, ("", False))[0]:
                    self._floor[receipt.document_id] = (receipt.version, receipt.stage is ReceiptStage.DELETED)

    def floor(self) -> Floor:
        """What is promised now: to be taken before a question is asked, and given with its answer."""
        with self._lock:
            return dict(self._floor)

    def hits(self, hits: Sequence[Mapping[str, Any]], floor: Floor) -> None:
        """One answer's hits."""
        versions: dict[str, set[str]] = {}
        for hit in hits:
            versions.setdefault(hit["document_id"], set()).add(hit["version"])
        for document, found in versions.items():
            if len(found) > 1:
                self.note(f"{document}: one answer shows versions {sorted(found)}")
            for version in sorted(found):
                self.shown(document, version, floor)

    def shown(self, document: str, version: str, floor: Floor) -> None:
        """An answer showed this version of a document."""
        least, deleted = floor.get(document, ("", False))
        if version < least:
            self.note(f"{document}: {version} shown, although {least} had its receipt before the question")
        if deleted and version == least:
            self.note(f"{document}: shown, although its deletion {least} had its receipt before the question")
        if version < self._seen.get(document, ""):
            self.note(f"{document}: {version} shown after {self._seen[document]}: it went back")
        self._seen[document] = max(version, self._seen.get(document, ""))

    def note(self, what: str) -> None:
        """Something is wrong; of very much, the first few are kept."""
        if len(self.wrong) < _MOST:
            self.wrong.append(what)
