"""What somebody who believes every answer and every receipt may never see contradicted. Pure; thread-safe.

Before this: receipts and answers. After this: `wrong`, one line for each contradiction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schemas.records import Receipt, ReceiptStage

_ENDED = (ReceiptStage.INDEXED, ReceiptStage.DELETED)
_MOST = 20

Floor = Mapping[str, tuple[str, bool]]
"""By document: the newest version that had its receipt, and whether that was a deletion."""


class Beliefs:
    """Of one knowledge base, whose documents come by one stream each: versions sort as texts.

    texts: every text that a document may have had; empty where that is not known.
    """

    def __init__(self, base: str, texts: Callable[[str], Sequence[str]]) -> None:
        self._base, self._texts = base, texts
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
        """One answer's hits, or chunks of a document: `document_id`, `version`, `start`, `end` and `text` of each."""
        documents: dict[str, list[Mapping[str, Any]]] = {}
        for hit in hits:
            documents.setdefault(hit["document_id"], []).append(hit)
        for document, found in documents.items():
            versions = sorted({hit["version"] for hit in found})
            if len(versions) > 1:
                self.note(f"{document}: one answer shows versions {versions}")
            known = self._texts(document)
            if known and not any(all(_from(text, hit) for hit in found) for text in known):
                self.note(f"{document}: no version of it has all that one answer shows of {versions}")
            for version in versions:
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


def _from(text: str, hit: Mapping[str, Any]) -> bool:
    return hit["text"] is None or text[hit["start"] : hit["end"]] == hit["text"]
