"""A manifest: one version of one document as the index holds it. Barriers are manifests of a whole source.

Before this: `contract.py`. Written by the index stage, read by every query: a hit counts only if the newest manifest
of its document lists it, and no barrier of its source is newer.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from schemas.records import MetadataValue, Origin, Position

NAMESPACE = uuid.UUID("8f6f2f52-6f0e-5a0c-9d4a-2f1f5d0a7c11")
"""The namespace of all our object ids (UUIDv5)."""

BARRIER_PREFIX = "\x00barrier/"
"""No document key starts like this: a tenant's name holds no control character."""


@dataclass(frozen=True)
class Span:
    """One chunk's place in a document: its object, its characters [start, end) of the text, heading path and page.

    object_hash covers all of the chunk that a query can return or filter on.
    """

    chunk_id: str
    object_hash: str
    start: int
    end: int
    heading: tuple[str, ...] = ()
    page: int | None = None


@dataclass(frozen=True)
class Manifest:
    """One version of a document. grave: the version is a deletion. access None: whoever may read the knowledge base."""

    document: str
    position: Position
    origin: Origin
    spans: tuple[Span, ...] = ()
    grave: bool = False
    title: str | None = None
    metadata: dict[str, MetadataValue] = field(default_factory=dict)
    access: tuple[str, ...] | None = None
    upload_id: str | None = None
    indexed_ms: int = 0

    @property
    def id(self) -> str:
        """The manifest's object id: the same for every writer that planned this version alike.

        Two writers may plan one version on different states of the index, with other objects for the same text. Then
        there are two manifests, of which one beats the other: overwritten, its objects would belong to nobody.
        """
        return object_id(self.document, "manifest", self.position.version, *(span.chunk_id for span in self.spans))

    @property
    def chunk_ids(self) -> frozenset[str]:
        """The chunks this version consists of."""
        return frozenset(span.chunk_id for span in self.spans)

    def to_json(self) -> str:
        """The manifest as the property `body` holds it."""
        raw = asdict(self)
        raw["spans"] = [
            [span.chunk_id, span.object_hash, span.start, span.end, list(span.heading), span.page]
            for span in self.spans
        ]
        return json.dumps(raw, ensure_ascii=False, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Manifest:
        """Back from `to_json`."""
        raw: dict[str, Any] = json.loads(text)
        raw["spans"] = tuple(Span(s[0], s[1], s[2], s[3], tuple(s[4]), s[5]) for s in raw["spans"])
        raw["position"] = Position(**raw["position"])
        raw["origin"] = Origin(**raw["origin"])
        raw["access"] = None if raw["access"] is None else tuple(raw["access"])
        return Manifest(**raw)


def barrier_document(source: str) -> str:
    """The document key under which barriers of a source are stored: `source` ended all its documents older than it."""
    return f"{BARRIER_PREFIX}{source}"


def object_id(*parts: str) -> str:
    """UUIDv5 of the parts, which may hold anything: their lengths are part of the name."""
    return str(uuid.uuid5(NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts)))


def beats(one: Manifest, other: Manifest) -> bool:
    """Whether one is newer than the other; of two manifests of one version, one and always the same beats the other."""
    if one.position.newer_than(other.position):
        return True
    return not other.position.newer_than(one.position) and one.id > other.id


def newest(manifests: Iterable[Manifest]) -> dict[str, Manifest]:
    """For each document the manifest that no other one beats."""
    found: dict[str, Manifest] = {}
    for manifest in manifests:
        known = found.get(manifest.document)
        if known is None or beats(manifest, known):
            found[manifest.document] = manifest
    return found


def live(manifest: Manifest | None, barrier: Manifest | None) -> bool:
    """True if this newest manifest makes its document visible: no grave, not older than its source's barrier."""
    if manifest is None or manifest.grave:
        return False
    return barrier is None or not barrier.position.ends(manifest.position)
