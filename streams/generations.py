"""Generations on a Weaviate server: made, found behind the alias, switched.

Before this: `schemas/index/contract.py`. After this: the index worker writes to the live one, the query API reads it.
"""

from __future__ import annotations

import weaviate.exceptions as wx
from weaviate.client import WeaviateClient

from schemas.index.contract import (
    ALIAS,
    CHUNK_PROPERTIES,
    MANIFEST_PROPERTIES,
    Generation,
    collection_definition,
)


class NoLiveGeneration(Exception):
    """The alias points nowhere: `thalweg generation ensure` makes the first generation."""


def create(client: WeaviateClient, generation: Generation) -> bool:
    """Make the generation's collections where they are missing; True if any was. Chunks last: it names the pair."""
    made = False
    for name, properties, description, vectors in (
        (generation.manifests, MANIFEST_PROPERTIES, "", False),
        (generation.chunks, CHUNK_PROPERTIES, generation.describe(), True),
    ):
        if not client.collections.exists(name):
            try:
                client.collections.create_from_dict(
                    collection_definition(name, properties, description, vectors=vectors)
                )
                made = True
            except wx.UnexpectedStatusCodeError as error:
                # Two starting at once: the other's is as good.
                if "already exists" not in error.message:
                    raise
    return made


def live(client: WeaviateClient) -> Generation:
    """The generation behind the alias. Raises NoLiveGeneration."""
    alias = client.alias.get(alias_name=ALIAS)
    if alias is None:
        raise NoLiveGeneration("no generation is live: run `thalweg generation ensure`")
    config = client.collections.use(alias.collection).config.get()
    return Generation.from_description(config.description or "")


def ensure(client: WeaviateClient, wanted: Generation) -> Generation:
    """The live generation; where there is none, `wanted` is made and goes live."""
    try:
        return live(client)
    except NoLiveGeneration:
        create(client, wanted)
        promote(client, wanted)
        return wanted


def promote(client: WeaviateClient, generation: Generation) -> None:
    """Point the alias at a generation: index and query embedder switch by this one call."""
    if client.alias.exists(alias_name=ALIAS):
        client.alias.update(alias_name=ALIAS, new_target_collection=generation.chunks)
    else:
        client.alias.create(alias_name=ALIAS, target_collection=generation.chunks)
