"""The index in Weaviate, as `ports.Index` asks for it: reads only, within one tenant, and never a vector.

Before it: `search.py`, `service.py`. After it: `weaviate_link.py`. What the objects hold: schemas/index/contract.py.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import weaviate
from weaviate.classes.aggregate import Metrics as Measure
from weaviate.classes.query import Filter as Where
from weaviate.classes.query import HybridFusion, MetadataQuery
from weaviate.collections import CollectionAsync

from query_api.retrieval.live_generation import LiveGeneration
from query_api.retrieval.ports import Ask, Candidate, Criteria, Live, Mode, NoIndex
from query_api.retrieval.weaviate_filters import present, rights_where, where
from query_api.retrieval.weaviate_link import UnknownTenant, WeaviateLink
from schemas.index.contract import ALIAS, VECTOR, Generation, metadata_key
from schemas.index.manifest import Manifest

T = TypeVar("T")
ALPHA = 0.5
"""alpha of a hybrid search: words and meaning count the same."""

_MANIFESTS_AT_ONCE = 10_000
"""Weaviate's own limit (QUERY_MAXIMUM_RESULTS)."""

_MOST_KEYS = 200
_PART = re.compile(r"Result Set (keyword|vector)[^)]*\).*?original score ([-0-9.e+]+), normalized score: ([-0-9.e+]+)")


class WeaviateIndex:
    """ports.Index over a link. alias names the live generation's chunks."""

    def __init__(self, link: WeaviateLink, *, alias: str = ALIAS, clock: Callable[[], float] = time.monotonic) -> None:
        self._link = link
        self._alias = alias
        self._live = LiveGeneration(self._named, self._described, clock)

    async def live(self, *, keys: bool = False, anew: bool = False) -> Live:
        return await self._live.get(keys=keys, anew=anew)

    async def _named(self) -> str:
        async def asked(client: weaviate.WeaviateAsyncClient) -> str:
            alias = await client.alias.get(alias_name=self._alias)
            if alias is None:
                raise NoIndex(f"Weaviate has no alias {self._alias}: nothing was indexed yet")
            return alias.collection

        return await self._link.call(asked)

    async def _described(self, collection: str) -> Live:
        return await self._link.call(lambda client: _described(client, collection, self._alias))

    async def candidates(self, live: Live, criteria: Criteria, ask: Ask) -> list[Candidate]:
        wanted: dict[str, Any] = {
            "filters": where(criteria),
            "limit": ask.limit,
            "return_properties": ["text", "document", "source"],
        }

        async def query(chunks: CollectionAsync[Any, Any]) -> list[Candidate]:
            match ask.mode:
                case "keyword":
                    metadata = MetadataQuery(score=True)
                    found = await chunks.query.bm25(
                        ask.text, query_properties=["text"], return_metadata=metadata, **wanted
                    )
                case "vector":
                    metadata = MetadataQuery(distance=True)
                    found = await chunks.query.near_vector(
                        list(ask.vector or ()), target_vector=VECTOR, return_metadata=metadata, **wanted
                    )
                case "hybrid":
                    found = await chunks.query.hybrid(
                        ask.text,
                        vector=list(ask.vector or ()),
                        target_vector=VECTOR,
                        alpha=ALPHA,
                        fusion_type=HybridFusion.RELATIVE_SCORE,
                        query_properties=["text"],
                        return_metadata=MetadataQuery(score=True, explain_score=ask.explain),
                        **wanted,
                    )
            return [_candidate(item, ask.mode) for item in found.objects]

        return await self._ask(live.generation.chunks, criteria.rights.tenant, query, [])

    async def manifests(self, live: Live, tenant: str, documents: Collection[str]) -> list[Manifest]:
        keys = sorted(documents)
        if not keys:
            return []

        async def query(manifests: CollectionAsync[Any, Any]) -> list[Manifest]:
            found = await manifests.query.fetch_objects(
                filters=Where.all_of(
                    [
                        Where.by_property("document").contains_any(keys),
                        Where.by_property("superseded").equal(False),
                    ]
                ),
                limit=_MANIFESTS_AT_ONCE,
                return_properties=["body"],
            )
            return [Manifest.from_json(str(item.properties["body"])) for item in found.objects]

        return await self._ask(live.generation.manifests, tenant, query, [])

    async def texts(self, live: Live, tenant: str, chunk_ids: Sequence[str]) -> dict[str, str]:
        if not chunk_ids:
            return {}

        async def query(chunks: CollectionAsync[Any, Any]) -> dict[str, str]:
            found = await chunks.query.fetch_objects_by_ids(
                list(chunk_ids), limit=len(chunk_ids), return_properties=["text"]
            )
            return {str(item.uuid): str(item.properties["text"]) for item in found.objects}

        return await self._ask(live.generation.chunks, tenant, query, {})

    async def has(self, live: Live, criteria: Criteria, name: str, data_type: str) -> bool:
        async def query(chunks: CollectionAsync[Any, Any]) -> bool:
            filters = Where.all_of([where(criteria), present(name, data_type)])
            found = await chunks.query.fetch_objects(filters=filters, limit=1, return_properties=["document"])
            return bool(found.objects)

        return await self._ask(live.generation.chunks, criteria.rights.tenant, query, False)

    async def keys_in_use(self, live: Live, criteria: Criteria) -> list[str]:
        asked: list[Any] = []
        for types in list(live.keys.values())[:_MOST_KEYS]:
            for data_type, name in types.items():
                match data_type:
                    case "number":
                        asked.append(Measure(name).number(count=True))
                    case "boolean":
                        asked.append(Measure(name).boolean(count=True))
                    case _:
                        asked.append(Measure(name).text(count=True))
        if not asked:
            return []

        async def query(chunks: CollectionAsync[Any, Any]) -> list[str]:
            found = await chunks.aggregate.over_all(filters=where(criteria), return_metrics=asked, total_count=False)
            used = {name for name, measured in found.properties.items() if getattr(measured, "count", 0)}
            return sorted({parsed[0] for name in used if (parsed := metadata_key(name)) is not None})

        return await self._ask(live.generation.chunks, criteria.rights.tenant, query, [])

    async def count(self, live: Live, criteria: Criteria) -> tuple[int, int]:
        async def chunks(collection: CollectionAsync[Any, Any]) -> int:
            found = await collection.aggregate.over_all(filters=where(criteria), total_count=True)
            return found.total_count or 0

        async def documents(collection: CollectionAsync[Any, Any]) -> int:
            open_rights = replace(criteria.rights, readers=None)  # manifests have no access property
            parts = [Where.by_property(name).equal(False) for name in ("superseded", "grave")]
            filters = Where.all_of([*parts, *rights_where(open_rights)])
            found = await collection.aggregate.over_all(filters=filters, total_count=True)
            return found.total_count or 0

        tenant = criteria.rights.tenant
        return (
            await self._ask(live.generation.manifests, tenant, documents, 0),
            await self._ask(live.generation.chunks, tenant, chunks, 0),
        )

    async def _ask(
        self, collection: str, tenant: str, query: Callable[[CollectionAsync[Any, Any]], Awaitable[T]], nothing: T
    ) -> T:
        """What the query gives in this tenant, or `nothing` if the collection does not know the tenant."""
        try:
            return await self._link.call(lambda client: query(client.collections.use(collection).with_tenant(tenant)))
        except UnknownTenant:
            return nothing
        except NoIndex:
            self._live.forget()
            raise


async def _described(client: weaviate.WeaviateAsyncClient, collection: str, alias: str) -> Live:
    config = await client.collections.export_config(collection)
    try:
        generation = Generation.from_description(config.description or "")
    except ValueError as error:
        raise NoIndex(f"the alias {alias} points to {collection}, which is no generation") from error
    keys: dict[str, dict[str, str]] = {}
    for item in config.properties:
        parsed = metadata_key(item.name)
        if parsed is not None:
            keys.setdefault(parsed[0], {})[parsed[1]] = item.name
    return Live(generation, keys)


def _candidate(item: Any, mode: Mode) -> Candidate:
    properties: Mapping[str, Any] = item.properties
    metadata = item.metadata
    parts: dict[str, float] = {}
    score = metadata.score
    if score is None:
        # Cosine distance 0..2; the score is the similarity, as in the vector leg of a hybrid search.
        score = 1.0 - (metadata.distance or 0.0)
        parts["vector"] = score
    elif mode == "keyword":
        parts["keyword"] = float(score)
    for leg, original, normalised in _PART.findall(metadata.explain_score or ""):
        parts[leg] = float(original)
        parts[f"{leg}_normalised"] = float(normalised)
    return Candidate(
        chunk_id=str(item.uuid),
        document=str(properties["document"]),
        source=str(properties.get("source") or ""),
        text=str(properties["text"]),
        score=float(score),
        parts=parts,
    )
