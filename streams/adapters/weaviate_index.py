"""IndexStore on Weaviate: one generation's two collections, written by one worker among several.

Before this: `steps/index.py` and `steps/commit.py`. After this: the query API reads what is written here.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
from weaviate.classes.config import DataType, Property, Tokenization
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter
from weaviate.classes.tenants import Tenant
from weaviate.client import WeaviateClient

from schemas.index.contract import STAMP, VECTOR, Generation, metadata_property, metadata_type
from schemas.index.manifest import BARRIER_PREFIX, Manifest, barrier_document, newest
from schemas.records import Position
from streams.adapters.weaviate_calls import call, raise_object_error
from streams.core.versions import NewChunk, StoredChunk
from streams.ports import PermanentFailure, Vector

T = TypeVar("T")

_WRITE = 100  # objects in one call: a failing call is short, and its objects' results fit into one answer
_ASK = 100  # values in one filter
_PAGE = 5_000  # objects in one answer
_HASH = 32  # digits of a text's hash; a document has one object for a text


class WeaviateIndex:
    """Thread-safe. The client is the caller's to close."""

    def __init__(self, client: WeaviateClient, generation: Generation) -> None:
        self._client = client
        self._generation = generation
        self._chunks = client.collections.use(generation.chunks)
        self._manifests = client.collections.use(generation.manifests)
        self._lock = threading.Lock()
        self._tenants: set[str] = set()
        self._properties: set[str] = set()
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="retire")

    def manifests(
        self, tenant: str, documents: Collection[str], sources: Collection[str]
    ) -> tuple[list[Manifest], dict[str, Manifest]]:
        """As IndexStore.manifests."""
        self._ensure_tenant(tenant)
        collection = self._manifests.with_tenant(tenant)
        found: list[Manifest] = []
        for part in _parts([*documents, *(barrier_document(source) for source in sources)], _ASK):
            where = Filter.by_property("document").contains_any(part) & Filter.by_property("superseded").equal(False)
            pages = _pages(collection.query.fetch_objects, filters=where, return_properties=["body"])
            found.extend(Manifest.from_json(item.properties["body"]) for item in pages)
        names = {barrier_document(source): source for source in sources}
        barriers = newest(manifest for manifest in found if manifest.document in names)
        return (
            [manifest for manifest in found if manifest.document not in names],
            {names[document]: manifest for document, manifest in barriers.items()},
        )

    def unretired(self, tenant: str, documents: Collection[str]) -> list[StoredChunk]:
        """As IndexStore.unretired."""
        collection = self._chunks.with_tenant(tenant)
        found: list[StoredChunk] = []
        for part in _parts(documents, _ASK):
            where = Filter.by_property("document").contains_any(part) & Filter.by_property("retired").equal(False)
            found.extend(
                StoredChunk(str(item.uuid), item.properties["document"], item.properties["introduced"])
                for item in _by_hash(collection.query.fetch_objects, where, ["document", "introduced"])
            )
        return found

    def retired(self, tenant: str, chunk_ids: Collection[str]) -> set[str]:
        """As IndexStore.retired."""
        collection = self._chunks.with_tenant(tenant)
        found: set[str] = set()
        for part in _parts(chunk_ids, _ASK):
            where = Filter.by_id().contains_any(part) & Filter.by_property("retired").equal(True)
            answer = call(collection.query.fetch_objects, filters=where, limit=_ASK, return_properties=[])
            found |= {str(item.uuid) for item in answer.objects}
        return found

    def vectors(self, tenant: str, text_hashes: Collection[str]) -> dict[str, Vector]:
        """As IndexStore.vectors."""
        collection = self._chunks.with_tenant(tenant)
        found: dict[str, Vector] = {}
        for part in _parts(text_hashes, _ASK):
            missing = set(part)
            while missing:
                where = Filter.by_property("text_hash").contains_any(sorted(missing))
                limit = 4 * _ASK
                answer = call(
                    collection.query.fetch_objects,
                    filters=where,
                    limit=limit,
                    include_vector=[VECTOR],
                    return_properties=["text_hash"],
                )
                for item in answer.objects:
                    found[item.properties["text_hash"]] = np.asarray(item.vector[VECTOR], dtype=np.float32)
                before = len(missing)
                missing -= found.keys()
                # Many objects may share a text: only an answer that was cut short, and helped, is worth another.
                if len(answer.objects) < limit or len(missing) == before:
                    break
        return found

    def write_chunks(self, tenant: str, chunks: Sequence[NewChunk], vectors: Mapping[str, Vector]) -> None:
        """As IndexStore.write_chunks."""
        self._ensure_tenant(tenant)
        self._ensure_properties(chunks)
        distinct = {chunk.id: chunk for chunk in chunks}.values()
        for chunk in distinct:
            vector = vectors[chunk.text_hash]
            if vector.shape != (self._generation.dimension,) or not np.isfinite(vector).all():
                raise PermanentFailure("bad_vector", f"{chunk.id}: shape {vector.shape}, or not finite")
        # One call's objects at a time: as lists of floats, vectors are eight times their size.
        objects = (
            DataObject(
                properties=_properties(chunk),
                uuid=chunk.id,
                vector={VECTOR: vectors[chunk.text_hash].tolist(), STAMP: _stamp()},
            )
            for chunk in distinct
        )
        self._insert(self._chunks.with_tenant(tenant), objects)

    def write_manifests(self, tenant: str, manifests: Sequence[Manifest]) -> None:
        """As IndexStore.write_manifests."""
        self._ensure_tenant(tenant)
        objects = [
            DataObject(
                uuid=manifest.id,
                vector={STAMP: _stamp()},
                properties={
                    "document": manifest.document,
                    "knowledge_base": _knowledge_base(manifest.document),
                    "source": manifest.origin.source,
                    "upload_id": manifest.upload_id or "",
                    "superseded": False,
                    "grave": manifest.grave,
                    "retired_ms": 0,
                    "body": manifest.to_json(),
                },
            )
            for manifest in manifests
        ]
        self._insert(self._manifests.with_tenant(tenant), objects)

    def retire(
        self,
        tenant: str,
        chunk_ids: Collection[str],
        manifests: Collection[Manifest],
        at_ms: int,
        *,
        anew: bool = False,
    ) -> None:
        """As IndexStore.retire."""
        marks = {"retired": True, "retired_ms": at_ms}
        self._mark(self._chunks.with_tenant(tenant), sorted(chunk_ids), marks, anew=anew)
        # Manifests last: while one is not marked, its chunks are looked through again.
        marks = {"superseded": True, "retired_ms": at_ms}
        self._mark(self._manifests.with_tenant(tenant), [manifest.id for manifest in manifests], marks, anew=anew)

    def revive(self, tenant: str, chunk_ids: Collection[str], *, anew: bool = False) -> None:
        """As IndexStore.revive."""
        marks = {"retired": False, "retired_ms": 0}
        self._mark(self._chunks.with_tenant(tenant), sorted(chunk_ids), marks, anew=anew)

    def _mark(self, collection: Any, identifiers: Iterable[str], marks: Mapping[str, Any], *, anew: bool) -> None:
        # An object that holds the marks, but has no index entries of them, gets those only when it has held others.
        others = {name: not value if isinstance(value, bool) else -1 for name, value in marks.items()}
        writes = [others, marks] if anew else [marks]

        def mark(identifier: str) -> None:
            try:
                for properties in writes:
                    call(collection.data.update, uuid=identifier, properties=properties)
            except PermanentFailure as error:
                if error.reason != "not_found":
                    raise

        list(self._pool.map(mark, identifiers))

    def documents(self, tenant: str) -> Iterable[tuple[str, str]]:
        """As IndexStore.documents."""
        for collection, mark in ((self._manifests, "superseded"), (self._chunks, "retired")):
            for held in _rows(collection.with_tenant(tenant), ["document", "source", mark]):
                document = str(held.properties["document"])
                if not held.properties[mark] and not document.startswith(BARRIER_PREFIX):
                    yield document, str(held.properties["source"])

    def unfound(self, tenant: str) -> Iterable[Manifest]:
        """As IndexStore.unfound."""
        collection = self._manifests.with_tenant(tenant)
        names = ("document", "knowledge_base", "source", "upload_id", "superseded", "grave")
        for part in _parts(_rows(collection, [*names, "body"]), _ASK):
            held = {str(item.uuid): item.properties for item in part if not item.properties["superseded"]}
            if not held:
                continue
            where = Filter.all_of(
                [
                    Filter.by_property(name).contains_any(sorted({item[name] for item in held.values()}))
                    for name in names
                ]
            )
            # Manifests of one document share all these values: there may be more of them than were asked for.
            found = {
                str(item.uuid) for item in _pages(collection.query.fetch_objects, filters=where, return_properties=[])
            }
            for identifier in held.keys() - found:
                yield Manifest.from_json(held[identifier]["body"])

    def documents_before(self, tenant: str, source: str, barrier: Position) -> Iterable[Manifest]:
        """As IndexStore.documents_before. The caller retires what it is given before it asks for more."""
        self._ensure_tenant(tenant)
        collection = self._manifests.with_tenant(tenant)
        where = (
            Filter.by_property("source").equal(source)
            & Filter.by_property("superseded").equal(False)
            & Filter.by_property("grave").equal(False)
        )
        seen: set[str] = set()
        while True:
            page = call(collection.query.fetch_objects, filters=where, limit=_PAGE, return_properties=["body"]).objects
            fresh = [
                manifest for item in page if (manifest := Manifest.from_json(item.properties["body"])).id not in seen
            ]
            if not fresh:
                return
            for manifest in fresh:
                seen.add(manifest.id)
                if barrier.ends(manifest.position):
                    yield manifest

    def _insert(self, collection: Any, objects: Iterable[Any]) -> None:
        for part in _parts(objects, _WRITE):
            answer = call(collection.data.insert_many, part)
            if answer.has_errors:
                raise_object_error([error.message for error in answer.errors.values()])

    def _ensure_tenant(self, tenant: str) -> None:
        if tenant in self._tenants:
            return
        with self._lock:
            for collection in (self._chunks, self._manifests):
                if call(collection.tenants.get_by_name, tenant) is None:
                    call(collection.tenants.create, [Tenant(name=tenant)])
            self._tenants.add(tenant)

    def _ensure_properties(self, chunks: Sequence[NewChunk]) -> None:
        """Make the typed property of every filterable key that the collection has not seen yet."""
        needed = {
            metadata_property(key, kind): kind
            for chunk in chunks
            for key, value in chunk.metadata.items()
            if (kind := metadata_type(value)) is not None
        }
        with self._lock:
            if not needed.keys() - self._properties:
                return
            self._properties = {p.name for p in call(self._chunks.config.get).properties}
            for name in sorted(needed.keys() - self._properties):
                kind = needed[name]
                text = kind.startswith("text")
                definition = Property(
                    name=name,
                    data_type=DataType(kind),
                    index_filterable=True,
                    index_searchable=False if text else None,
                    index_range_filters=True if kind == "number" else None,
                    tokenization=Tokenization.FIELD if text else None,
                )
                try:
                    call(self._chunks.config.add_property, definition)
                except PermanentFailure as error:
                    # Another worker was faster.
                    if "already exists" not in error.detail:
                        raise
                self._properties.add(name)


def _properties(chunk: NewChunk) -> dict[str, Any]:
    found: dict[str, Any] = {
        "text": chunk.text,
        "document": chunk.document,
        "knowledge_base": chunk.knowledge_base,
        "source": chunk.source,
        "text_hash": chunk.text_hash,
        "introduced": chunk.introduced,
        "access": list(chunk.access or ()),
        "public": chunk.access is None,
        "retired": False,
        "retired_ms": 0,
    }
    for key, value in chunk.metadata.items():
        kind = metadata_type(value)
        if kind is not None:
            found[metadata_property(key, kind)] = value
    return found


def _stamp() -> list[float]:
    return [float(1 + secrets.randbelow(1 << 24))]


def _knowledge_base(document: str) -> str:
    parts = document.split("/", 2)
    return parts[1] if len(parts) == 3 else ""


def _parts(items: Iterable[T], size: int) -> Iterable[list[T]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def _rows(collection: Any, properties: list[str]) -> Iterable[Any]:
    """Every object of a tenant, from the objects themselves: no index is asked."""
    coming = call(iter, collection.iterator(return_properties=properties, cache_size=_PAGE))
    while (item := call(next, coming, None)) is not None:
        yield item


def _by_hash(ask: Callable[..., Any], where: Any, properties: list[str], begin: str = "") -> Iterable[Any]:
    """All chunk objects that match. Weaviate gives no more than the first 10,000 of an answer, whatever the paging
    (QUERY_MAXIMUM_RESULTS), and no cursor with a filter: so where there are many, by the first digits of text hashes.
    """
    narrower = where & Filter.by_property("text_hash").like(f"{begin}*") if begin else where
    objects: list[Any] = call(ask, filters=narrower, limit=_PAGE, return_properties=properties).objects
    if len(objects) < _PAGE or len(begin) == _HASH:
        return objects
    return chain.from_iterable(_by_hash(ask, where, properties, begin + digit) for digit in "0123456789abcdef")


def _pages(ask: Callable[..., Any], **asked: Any) -> Iterable[Any]:
    offset = 0
    while True:
        answer = call(ask, limit=_PAGE, offset=offset, **asked)
        yield from answer.objects
        if len(answer.objects) < _PAGE:
            return
        offset += _PAGE
