"""Who a dead letter is about, and what the index holds of it: the settings' registry, sources and index, asked.

Before this: settings. After this: `commands.py`. It is the composition root of the command, as `bootstrap.py`
is that of the workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.settings import Settings
from runtime.topics import Topics
from schemas.codec import Codec
from schemas.index.manifest import Manifest
from streams.adapters.sources import SourceList
from streams.core.letters import Letter, State
from streams.dlq.ways_back import Describer, with_superseded
from streams.ports import PermanentFailure, TemporaryFailure


class IndexUnavailable(Exception):
    """The index cannot be asked now; the text says why."""


def describer(settings: Settings, codec: Codec) -> Describer:
    """Reads the applied sources. Raises BrokerUnavailable."""
    sources = SourceList(settings.kafka.bootstrap, codec, Topics(settings.kafka.bootstrap))
    try:
        return Describer(codec, sources.start(settings.kafka.request_timeout_s))
    finally:
        sources.close()


def look_up(settings: Settings, letters: Sequence[Letter]) -> list[Letter]:
    """The letters, those of beaten versions as superseded. Raises IndexUnavailable."""
    if not any(letter.state is State.PARKED and letter.position is not None for letter in letters):
        return list(letters)
    from runtime.weaviate import WeaviateUnavailable, connect
    from streams import generations
    from streams.adapters.weaviate_index import WeaviateIndex

    try:
        with connect(settings.weaviate) as client:
            generation = generations.live(client)
            index, tenants = WeaviateIndex(client, generation), client.collections.use(generation.manifests).tenants

            def known(
                tenant: str, documents: Sequence[str], sources: Sequence[str]
            ) -> tuple[list[Manifest], Mapping[str, Manifest]]:
                # A tenant that never had a document is not made by asking for one.
                return index.manifests(tenant, documents, sources) if tenants.exists(tenant) else ([], {})

            return with_superseded(letters, known)
    except (WeaviateUnavailable, generations.NoLiveGeneration, TemporaryFailure, PermanentFailure) as error:
        raise IndexUnavailable(f"the index cannot be asked: {error}") from error
