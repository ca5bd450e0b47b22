"""Writes chunk objects and manifests as the contract says, one object at a time, so that a test can stop half-way."""

from __future__ import annotations

import math
import re
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import weaviate
from weaviate.auth import Auth
from weaviate.classes.tenants import Tenant
from weaviate.config import AdditionalConfig
from weaviate.connect import ConnectionParams

from schemas.index.contract import (
    CHUNK_PROPERTIES,
    MANIFEST_PROPERTIES,
    VECTOR,
    Generation,
    collection_definition,
    metadata_definition,
    metadata_property,
    metadata_type,
)
from schemas.index.manifest import Manifest, Span, barrier_document, object_id
from schemas.records import MetadataValue, Origin, Position, document_key
from tests.integration.servers import WeaviateServer

DIMENSION = 16
MODEL = "word_hash_16"


def vector_of(text: str) -> list[float]:
    """A bag of hashed words, of unit length: texts that share words are near."""
    found = [0.01] * DIMENSION
    for word in re.findall(r"\w+", text.lower()):
        found[zlib.crc32(word.encode()) % DIMENSION] += 1.0
    length = math.sqrt(sum(number * number for number in found))
    return [number / length for number in found]


class WordEmbedder:
    """ports.QueryEmbedder with `vector_of`."""

    async def embed(self, generation: Generation, text: str) -> list[float]:
        assert generation.model == MODEL
        return vector_of(text)


def position(major: int, *, stream: str = "cdc/shop", epoch: int = 1) -> Position:
    return Position(stream, epoch, major, 1, 1_000 + major)


@dataclass(frozen=True)
class Version:
    """One version of a document, as the writer takes it: texts of its chunks, in order."""

    document_id: str
    texts: Sequence[str]
    major: int
    tenant: str = "acme"
    knowledge_base: str = "handbook"
    source: str = "shop"
    stream: str = "cdc/shop"
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    access: tuple[str, ...] | None = None
    title: str | None = None
    grave: bool = False

    @property
    def document(self) -> str:
        return document_key(self.tenant, self.knowledge_base, self.document_id)

    def chunk_id(self, text: str) -> str:
        return object_id(self.document, text, str(self.major))

    def manifest(self) -> Manifest:
        spans, start = [], 0
        for text in self.texts:
            spans.append(Span(self.chunk_id(text), "hash", start, start + len(text), ("Top", self.document_id), 3))
            start += len(text) + 2
        return Manifest(
            document=self.document,
            position=position(self.major, stream=self.stream),
            origin=Origin("cdc", self.source, self.document_id, "shop.public.page", 0, self.major),
            spans=tuple(spans),
            grave=self.grave,
            title=self.title,
            metadata=dict(self.metadata),
            access=self.access,
            indexed_ms=5,
        )


def _connected(server: WeaviateServer) -> weaviate.WeaviateClient:
    http, (host, _, port) = urlsplit(server.url), server.grpc.rpartition(":")
    client = weaviate.WeaviateClient(
        ConnectionParams.from_params(
            http_host=http.hostname or "",
            http_port=http.port or 80,
            http_secure=False,
            grpc_host=host,
            grpc_port=int(port),
            grpc_secure=False,
        ),
        auth_client_secret=Auth.api_key(server.key),
        additional_config=AdditionalConfig(trust_env=False),
        skip_init_checks=True,
    )
    client.connect()
    return client


class IndexWriter:
    """A generation of its own on a server, live under an alias of its own."""

    def __init__(self, server: WeaviateServer, *, keys: Mapping[str, str], tenants: Sequence[str]) -> None:
        self._client = _connected(server)
        self.alias = f"Test{uuid.uuid4().hex}"
        self.generation = Generation(MODEL, DIMENSION, "test", salt=self.alias)
        properties = (*CHUNK_PROPERTIES, *(metadata_definition(key, kind) for key, kind in keys.items()))
        for definition in (
            collection_definition(self.generation.chunks, properties, self.generation.describe(), vectors=True),
            collection_definition(self.generation.manifests, MANIFEST_PROPERTIES, "manifests", vectors=False),
        ):
            self._client.collections.create_from_dict(definition)
        self._client.alias.create(alias_name=self.alias, target_collection=self.generation.chunks)
        for name in (self.generation.chunks, self.generation.manifests):
            self._client.collections.use(name).tenants.create([Tenant(name=tenant) for tenant in tenants])

    @classmethod
    def joined(cls, server: WeaviateServer, alias: str) -> IndexWriter:
        """Another writer to what the writer with this alias made."""
        writer = cls.__new__(cls)
        writer._client = _connected(server)
        writer.alias, writer.generation = alias, Generation(MODEL, DIMENSION, "test", salt=alias)
        return writer

    def hand_over(self, other: IndexWriter) -> None:
        """The alias points to the other's generation from now on."""
        self._client.alias.update(alias_name=self.alias, new_target_collection=other.generation.chunks)

    def close(self) -> None:
        """Remove everything again."""
        self._client.alias.delete(alias_name=self.alias)
        self._client.collections.delete([self.generation.chunks, self.generation.manifests])
        self._client.close()

    def write(self, *versions: Version) -> None:
        """Chunks, then the manifest, of each version."""
        for version in versions:
            self.write_chunks(version)
            self.write_manifest(version.manifest(), version.tenant, version.knowledge_base)

    def write_chunks(self, version: Version) -> None:
        """The chunk objects of a version: step 1 of its commit."""
        chunks = self._client.collections.use(self.generation.chunks).with_tenant(version.tenant)
        filterable = {}
        for key, value in version.metadata.items():
            kind = metadata_type(value)
            if kind is not None:
                filterable[metadata_property(key, kind)] = value
        for text in version.texts:
            chunks.data.insert(
                uuid=version.chunk_id(text),
                vector={VECTOR: vector_of(text)},
                properties={
                    "text": text,
                    "document": version.document,
                    "knowledge_base": version.knowledge_base,
                    "source": version.source,
                    "text_hash": "hash",
                    "introduced": "v",
                    "access": list(version.access or ()),
                    "public": version.access is None,
                    "retired": False,
                    **filterable,
                },
            )

    def write_manifest(self, manifest: Manifest, tenant: str, knowledge_base: str) -> None:
        """A manifest object: step 2 of a commit."""
        self._client.collections.use(self.generation.manifests).with_tenant(tenant).data.insert(
            uuid=manifest.id,
            properties={
                "document": manifest.document,
                "knowledge_base": knowledge_base,
                "source": manifest.origin.source,
                "superseded": False,
                "grave": manifest.grave,
                "body": manifest.to_json(),
            },
        )

    def write_barrier(self, source: str, major: int, *, tenant: str = "acme", stream: str = "cdc/shop") -> None:
        """A barrier: everything of the source that is older has ended."""
        barrier = Manifest(
            document=barrier_document(source),
            position=position(major, stream=stream),
            origin=Origin("cdc", source, "", "shop.public.page", 0, major),
            grave=True,
        )
        self.write_manifest(barrier, tenant, "")

    def supersede(self, version: Version) -> None:
        """Mark a version's manifest as beaten."""
        manifests = self._client.collections.use(self.generation.manifests).with_tenant(version.tenant)
        manifests.data.update(uuid=version.manifest().id, properties={"superseded": True})

    def retire(self, version: Version, text: str) -> None:
        """Mark a chunk retired: step 3 of the commit that drops it."""
        chunks = self._client.collections.use(self.generation.chunks).with_tenant(version.tenant)
        chunks.data.update(uuid=version.chunk_id(text), properties={"retired": True, "retired_ms": 1.0})
