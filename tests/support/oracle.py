"""The judge: what an index shows at rest, by a full scan, against a plain model of the sources. Counts prove nothing.

Works on whatever gives manifests and unretired chunks: the fake, or the real collections read to the end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from schemas.index.manifest import BARRIER_PREFIX, Manifest, live, newest


@dataclass(frozen=True)
class ScannedChunk:
    """An unretired chunk object."""

    id: str
    document: str
    text: str


@dataclass(frozen=True)
class Scan:
    """Everything an index holds that is not marked superseded or retired."""

    manifests: tuple[Manifest, ...]
    chunks: tuple[ScannedChunk, ...]

    def live_documents(self) -> dict[str, Manifest]:
        """The manifest of each visible document."""
        best = newest(self.manifests)
        barriers = {d.removeprefix(BARRIER_PREFIX): m for d, m in best.items() if d.startswith(BARRIER_PREFIX)}
        return {
            d: m for d, m in best.items() if not d.startswith(BARRIER_PREFIX) and live(m, barriers.get(m.origin.source))
        }


def differences(scan: Scan, expected: Mapping[str, str]) -> list[str]:
    """What is missing, doubled, stale or wrong, one line each; expected is document key to text. Empty: exact."""
    found: list[str] = []
    shown = scan.live_documents()
    texts = {chunk.id: chunk for chunk in scan.chunks}
    found += [f"missing: {document}" for document in sorted(expected.keys() - shown.keys())]
    found += [f"should be gone: {document}" for document in sorted(shown.keys() - expected.keys())]
    listed: set[str] = set()
    for document in sorted(expected.keys() & shown.keys()):
        manifest, text = shown[document], expected[document]
        covered = 0
        for span in manifest.spans:
            listed.add(span.chunk_id)
            chunk = texts.get(span.chunk_id)
            if chunk is None:
                found.append(f"{document}: chunk {span.chunk_id} at {span.start} is listed, but retired or not there")
            elif chunk.text != text[span.start : span.end] or chunk.document != document:
                found.append(f"{document}: chunk {span.chunk_id} is not the text at {span.start}..{span.end}")
            if text[covered : span.start].strip():
                found.append(f"{document}: text before {span.start} is in no chunk")
            covered = span.end
        if text[covered:].strip():
            found.append(f"{document}: text after {covered} is in no chunk")
    found += [
        f"{chunk.document}: chunk {identifier} is neither listed nor retired"
        for identifier, chunk in sorted(texts.items())
        if identifier not in listed
    ]
    open_ones: dict[str, int] = {}
    for manifest in scan.manifests:
        open_ones[manifest.document] = open_ones.get(manifest.document, 0) + 1
    found += [
        f"{document}: {count} manifests are not marked superseded"
        for document, count in sorted(open_ones.items())
        if count > 1 and not document.startswith(BARRIER_PREFIX)
    ]
    return found


def scan_fake(index: object, documents: Collection[str] | None = None) -> Scan:
    """A scan of tests.support.fake_index.FakeIndex."""
    from tests.support.fake_index import FakeIndex

    assert isinstance(index, FakeIndex)
    wanted = None if documents is None else set(documents)
    return Scan(
        tuple(
            m
            for m in index.stored.values()
            if m.id not in index.superseded and (wanted is None or m.document in wanted)
        ),
        tuple(
            ScannedChunk(i, s.chunk.document, s.chunk.text)
            for i, s in index.chunks.items()
            if not s.retired and (wanted is None or s.chunk.document in wanted)
        ),
    )


def scan_weaviate(client: object, chunks: str, manifests: str, tenant: str) -> Scan:
    """A scan of a generation's real collections: every object, by cursor."""
    from weaviate.client import WeaviateClient

    assert isinstance(client, WeaviateClient)

    def objects(name: str) -> Iterable[tuple[str, Mapping[str, object]]]:
        for item in client.collections.use(name).with_tenant(tenant).iterator():
            yield str(item.uuid), item.properties

    return Scan(
        tuple(Manifest.from_json(str(p["body"])) for _, p in objects(manifests) if not p["superseded"]),
        tuple(
            ScannedChunk(identifier, str(p["document"]), str(p["text"]))
            for identifier, p in objects(chunks)
            if not p["retired"]
        ),
    )
