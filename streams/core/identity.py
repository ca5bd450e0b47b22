"""Names that are functions of content: text hash, object hash, chunk id.

Before this: `chunking.py`. After this: `versions.py` decides which chunks are new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from schemas.index.contract import METADATA_KEY, metadata_type
from schemas.index.manifest import object_id
from schemas.records import DocumentChange, MetadataValue

MOST_FILTERABLE = 32
"""Metadata keys of one document that become filterable: each is an index of its own in the store."""


def text_hash(text: str) -> str:
    """32 hexadecimal characters of SHA-256: with the model's fingerprint it decides whether a vector is reused."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def filterable_metadata(change: DocumentChange) -> dict[str, MetadataValue]:
    """The part of a change's metadata that a query can filter on: what the source declares, or all it can be."""
    names = sorted(change.metadata) if change.filterable is None else change.filterable
    found: dict[str, MetadataValue] = {}
    for name in names:
        value = change.metadata.get(name)
        if METADATA_KEY.match(name) and metadata_type(value) is not None and len(found) < MOST_FILTERABLE:
            found[name] = value
    return found


def object_hash(text: str, *, source: str, metadata: dict[str, MetadataValue], access: Sequence[str] | None) -> str:
    """16 hexadecimal characters over all that a query can return from, or filter on in, the chunk's object."""
    body = json.dumps([text, source, metadata, None if access is None else sorted(access)], sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def chunk_id(document: str, hash_of_object: str, introduced: str) -> str:
    """The object's id: a pure function of the document's history, so that all writers agree on it.

    introduced is the version at which the chunk's present unbroken run of versions began. A chunk that left and came
    back is another object, hence an id that any writer has retired is listed by no later manifest.
    """
    return object_id(document, "chunk", hash_of_object, introduced)
