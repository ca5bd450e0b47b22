"""Which of the matches are true: listed by the newest live manifest of their document, which admits the caller. Pure.

Before it: candidates and manifests from the store. After it: hits. This is where deleted, half-written and beaten
versions end: an answer never mixes two versions of a document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from query_api.retrieval.ports import Candidate
from query_api.retrieval.rights import Rights
from runtime.privacy.policy import LABEL, RESTRICTED
from schemas.index.manifest import Manifest, Span, barrier_document, live, newest
from schemas.records import MetadataValue, split_document_key


@dataclass(frozen=True)
class Neighbour:
    """A chunk that stands beside a hit in its document; the fields are a hit's."""

    chunk_id: str
    text: str
    start: int
    end: int
    heading: tuple[str, ...]
    page: int | None


@dataclass(frozen=True)
class Hit:
    """A chunk that counts. start and end are character offsets in the document's text; text is exactly that stretch.

    spans are all chunks of this version of the document in their order, of which this is number `place`. before and
    after are empty unless neighbours were asked for.
    """

    document_id: str
    knowledge_base: str
    chunk_id: str
    text: str
    title: str | None
    score: float
    start: int
    end: int
    heading: tuple[str, ...]
    page: int | None
    metadata: Mapping[str, MetadataValue]
    source: str
    version: str
    parts: Mapping[str, float]
    place: int = 0
    spans: tuple[Span, ...] = field(default=(), repr=False)
    before: tuple[Neighbour, ...] = ()
    after: tuple[Neighbour, ...] = ()

    @property
    def restricted(self) -> bool:
        """True if it must not be sent to a model that is not ours."""
        return self.metadata.get(LABEL) == RESTRICTED


def keys_to_ask(candidates: Iterable[Candidate]) -> set[str]:
    """The document keys whose manifests decide about these candidates: their documents, and their sources' barriers."""
    found = set()
    for candidate in candidates:
        found.add(candidate.document)
        found.add(barrier_document(candidate.source))
    return found


def readable(manifest: Manifest | None, manifests: Mapping[str, Manifest], rights: Rights) -> bool:
    """True if this newest manifest shows its document to the caller; manifests holds the barriers too."""
    if manifest is None:
        return False
    return live(manifest, manifests.get(barrier_document(manifest.origin.source))) and rights.admits(manifest)


def visible(candidates: Sequence[Candidate], manifests: Iterable[Manifest], rights: Rights) -> tuple[list[Hit], int]:
    """The hits in the candidates' order, and how many candidates belong to a readable document's other version.

    Such a candidate says that the document changed while it was looked for: another look finds its new chunks.
    """
    deciding = newest(manifests)
    hits, beaten = [], 0
    for candidate in candidates:
        manifest = deciding.get(candidate.document)
        if manifest is None or not readable(manifest, deciding, rights):
            continue
        places = (at for at, span in enumerate(manifest.spans) if span.chunk_id == candidate.chunk_id)
        place = next(places, None)
        if place is None:
            beaten += 1
            continue
        span = manifest.spans[place]
        _, base, document_id = split_document_key(candidate.document)
        hits.append(
            Hit(
                document_id=document_id,
                knowledge_base=base,
                chunk_id=candidate.chunk_id,
                text=candidate.text,
                title=manifest.title,
                score=candidate.score,
                start=span.start,
                end=span.end,
                heading=span.heading,
                page=span.page,
                metadata=manifest.metadata,
                source=manifest.origin.source,
                version=manifest.position.version,
                parts=candidate.parts,
                place=place,
                spans=manifest.spans,
            )
        )
    return hits, beaten
