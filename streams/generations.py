"""Generations on a Weaviate server: made, found, switched, removed. The alias says which one answers.

Before this: `schemas/index/contract.py`. After this: `rebuilding/` (the commands), the index workers, the query API.
What a generation was made with never changes and is the description of its Chunks; how it fares (`Life`) is the
description of its Manifests, a collection whose properties never change, so that the two updates cannot collide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import weaviate.exceptions as wx
from weaviate.client import WeaviateClient

from runtime.embedding.contract import EmbeddingMisconfigured
from runtime.embedding.select import configured_fingerprint
from runtime.settings import Embedding
from schemas.index.contract import (
    ALIAS,
    CHUNK_PROPERTIES,
    MANIFEST_PROPERTIES,
    Generation,
    collection_definition,
)
from streams.core.chunking import ChunkingParameters

_CHUNKS, _MANIFESTS = "Chunks_", "Manifests_"


class NoLiveGeneration(Exception):
    """The alias points nowhere: `thalweg generation ensure` makes the first generation."""


class WrongModel(Exception):
    """This process cannot work on the generation: another chunker made it."""


@dataclass(frozen=True)
class Life:
    """How a generation fares. Times in milliseconds since 1970; 0: never.

    joining_until_ms: until then, the main group's workers write to it beside the live one: a promotion is under way.
    replaced: the generation that was live before this one was promoted, at promoted_ms.
    """

    made_ms: int = 0
    joining_until_ms: int = 0
    replaced: str = ""
    promoted_ms: int = 0


@dataclass(frozen=True)
class Standing:
    """All generations at one moment, by name, and the name of the live one."""

    live: str
    generations: Mapping[str, Generation]
    lives: Mapping[str, Life]

    @property
    def live_generation(self) -> Generation:
        """The generation behind the alias."""
        return self.generations[self.live]

    @property
    def others(self) -> dict[str, Generation]:
        """Those that are not live."""
        return {name: found for name, found in self.generations.items() if name != self.live}

    def joining(self, now_ms: int) -> Generation | None:
        """The generation that is being promoted, which the main group's workers write to beside the live one."""
        found = [name for name in self.others if self.lives[name].joining_until_ms > now_ms]
        return self.generations[max(found, key=lambda name: self.lives[name].joining_until_ms)] if found else None


def wanted_generation(embedding: Embedding, *, salt: str = "") -> Generation:
    """The generation that these settings would make. Raises EmbeddingMisconfigured."""
    fingerprint, parameters = configured_fingerprint(embedding), ChunkingParameters()
    return Generation(
        fingerprint.key(),
        fingerprint.dimension,
        parameters.fingerprint,
        salt,
        fingerprint.record(),
        asdict(parameters),
    )


def parameters_of(generation: Generation) -> ChunkingParameters:
    """The chunker with which the generation was made. Raises WrongModel if this version of the program has another."""
    try:
        found = ChunkingParameters(**generation.chunking)
    except TypeError:
        found = ChunkingParameters()
    if found.fingerprint != generation.chunker:
        raise WrongModel(
            f"generation {generation.name} was made with the chunker {generation.chunker}, this version of thalweg has "
            f"{found.fingerprint}: `thalweg rebuild start`, then promote what it makes"
        )
    return found


def can_be_fed(generation: Generation, embedding: Embedding) -> str | None:
    """None, or why no worker of this program can write to the generation."""
    try:
        parameters_of(generation)
        if not generation.embedding and configured_fingerprint(embedding).key() != generation.model:
            return f"it does not say which model {generation.model} is"
    except (WrongModel, EmbeddingMisconfigured) as error:
        return str(error)
    return None


def create(client: WeaviateClient, generation: Generation, *, made_ms: int = 0) -> bool:
    """Make the generation's collections where they are missing; True if any was. Chunks last: it names the pair."""
    made = False
    for name, properties, description, vectors in (
        (generation.manifests, MANIFEST_PROPERTIES, _told(Life(made_ms=made_ms)), False),
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


def standing(client: WeaviateClient) -> Standing:
    """All generations. Raises NoLiveGeneration."""
    alias = client.alias.get(alias_name=ALIAS)
    collections = client.collections.list_all(simple=True)
    found, lives = {}, {}
    for collection, config in collections.items():
        if not collection.startswith(_CHUNKS):
            continue
        try:
            generation = Generation.from_description(config.description or "")
        except ValueError:
            continue
        if generation.chunks == collection and generation.manifests in collections:
            found[generation.name] = generation
            lives[generation.name] = _life(collections[generation.manifests].description)
    name = alias.collection.removeprefix(_CHUNKS) if alias is not None else ""
    if name not in found:
        raise NoLiveGeneration("no generation is live: run `thalweg generation ensure`")
    return Standing(name, found, lives)


def note(client: WeaviateClient, generation: Generation, **changes: int | str) -> Life:
    """Change fields of the generation's Life; the new one."""
    config = client.collections.use(generation.manifests).config
    life = replace(_life(config.get(simple=True).description), **changes)  # type: ignore[arg-type]  # names are ours
    config.update(description=_told(life))
    return life


def ensure(client: WeaviateClient, wanted: Generation, *, made_ms: int = 0) -> Generation:
    """The live generation; where there is none, `wanted` is made and goes live."""
    try:
        return live(client)
    except NoLiveGeneration:
        create(client, wanted, made_ms=made_ms)
        point(client, wanted)
        return wanted


def point(client: WeaviateClient, generation: Generation) -> None:
    """Point the alias at a generation: index and query embedder switch by this one call."""
    if client.alias.exists(alias_name=ALIAS):
        client.alias.update(alias_name=ALIAS, new_target_collection=generation.chunks)
    else:
        client.alias.create(alias_name=ALIAS, target_collection=generation.chunks)


def remove(client: WeaviateClient, name: str) -> bool:
    """Delete a generation's collections, also what an interrupted removal left; True if there was any.

    Chunks first: what lacks it is no generation any more.
    """
    there = [part for part in (f"{_CHUNKS}{name}", f"{_MANIFESTS}{name}") if client.collections.exists(part)]
    for part in there:
        client.collections.delete(part)
    return bool(there)


def _told(life: Life) -> str:
    return json.dumps(asdict(life), sort_keys=True)


def _life(description: str | None) -> Life:
    try:
        return Life(**json.loads(description or "{}"))
    except (TypeError, ValueError):
        return Life()
