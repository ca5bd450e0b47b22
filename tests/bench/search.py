"""What a search costs beyond what it cannot do without: embedding the question, and Weaviate's own hybrid search.

Before: a running stack. After: `__main__` prints the numbers. Both are timed in one run, in turns, by the same number
of clients on the same machine: whatever else it does slows both.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx
from prometheus_client import CollectorRegistry
from weaviate.classes.query import HybridFusion

from connectors.publish import Following, follow_receipts, publish_events
from deploy.demo import corpus
from deploy.demo.client import percentile
from query_api.retrieval.query_embedding import ThreadedEmbedder
from query_api.retrieval.weaviate_index import ALPHA, WeaviateIndex
from query_api.retrieval.weaviate_link import WeaviateLink
from runtime.clock import now_ms
from runtime.embedding.select import embedder_of
from runtime.metrics import declare
from runtime.producer import ConfirmedProducer
from runtime.settings import Settings
from schemas.codec import Codec
from schemas.index.contract import VECTOR
from schemas.records import Event
from schemas.registry import Registry
from tests.bench import throughput

CHUNKS = 20_000
CLIENTS = (1, 8)
MOST_OF_BARE = 1.5
LIMIT = 5
_AT_ONCE = 250
"""Documents published together; after each such load the chunks are counted."""

_LOAD_S = 900.0
_BLOCK = 10
"""Calls of a client of one kind, before all turn to the other."""

_WARM = 16
"""Of each kind, not counted: connections are made, caches filled."""

_CALL_S = 30.0


@dataclass(frozen=True)
class Pair:
    """Seconds of `count` searches and of as many bare sums, and the ratio of the two p95."""

    clients: int
    count: int
    search_p50: float
    search_p95: float
    bare_p50: float
    bare_p95: float
    ratio: float


@dataclass(frozen=True)
class Found:
    """All pairs over so many chunks."""

    chunks: int
    pairs: list[Pair]

    @property
    def good(self) -> bool:
        """True if each search's p95 is within its share of the bare sum's."""
        return self.chunks >= CHUNKS and all(pair.ratio <= MOST_OF_BARE for pair in self.pairs)


def measure(settings: Settings, url: str, key: str, *, searches: int, tell: Callable[[str], None]) -> Found:
    """Load, measure at each number of clients, delete again. url is the query API's. Raises httpx.HTTPStatusError."""
    _known_base(url, key)
    with _loaded(settings, tell) as chunks:
        pairs = []
        for clients in CLIENTS:
            tell(f"search: {searches} searches and {searches} bare sums, {clients} at once")
            pairs.append(asyncio.run(_timed(settings, url, key, clients, searches)))
    return Found(chunks, pairs)


def _known_base(url: str, key: str) -> None:
    """What is published to Kafka past the APIs makes no knowledge base."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=_CALL_S, trust_env=False) as http:
        made = http.post("/v1/knowledge-bases", json={"name": throughput.BASE})
        if made.status_code != httpx.codes.CONFLICT:
            made.raise_for_status()


@contextmanager
def _loaded(settings: Settings, tell: Callable[[str], None]) -> Iterator[int]:
    """At least CHUNKS chunks of new texts, searchable; how many. The documents are deleted at the end."""
    run = f"search-{time.time_ns():x}"
    codec, following = Codec(Registry(settings.registry.url)), Following()
    tail = follow_receipts(settings.kafka.bootstrap, codec, following, since_ms=now_ms())
    events: list[Event] = []
    chunks = 0
    try:
        with ConfirmedProducer(settings.kafka.bootstrap, client_id="thalweg-bench") as producer:

            def published(batch: Sequence[Event]) -> int:
                positions = [item.position for sent in publish_events(producer, codec, batch) for item in sent]
                if missing := following.wait(positions, _LOAD_S, lambda count: None):
                    raise TimeoutError(f"{len(missing)} documents did not become searchable within {_LOAD_S:g} s")
                return sum(following.ended[position].chunks for position in positions)

            tail.wait_caught_up(30.0)
            try:
                while chunks < CHUNKS:
                    batch = [
                        Event(
                            tenant=settings.tenant,
                            knowledge_base=throughput.BASE,
                            source="bench",
                            id=f"{run}-{len(events) + number}",
                            text=text,
                        )
                        for number, text in enumerate(throughput.texts(_AT_ONCE, f"{run}-{len(events)}"))
                    ]
                    events += batch
                    chunks += published(batch)
                    tell(f"search: {chunks} chunks of {CHUNKS} are there")
                yield chunks
            finally:
                published([replace(event, text=None, delete=True) for event in events])
    finally:
        tail.close()


async def _timed(settings: Settings, url: str, key: str, clients: int, searches: int) -> Pair:
    weaviate_key = settings.weaviate.api_key
    link = WeaviateLink(
        settings.weaviate.url,
        settings.weaviate.grpc,
        weaviate_key.get_secret_value() if weaviate_key else None,
        timeout_s=_CALL_S,
    )
    embedder = ThreadedEmbedder(
        lambda generation: embedder_of(generation.embedding, settings.embedding),
        declare(CollectorRegistry()),
        threads=2,  # as the query API has it
        timeout_s=_CALL_S,
    )
    generation = (await WeaviateIndex(link).live()).generation
    http = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=_CALL_S, trust_env=False)

    async def search(question: str) -> None:
        body = {"query": question, "knowledge_bases": [throughput.BASE], "limit": LIMIT}
        (await http.post("/v1/search", json=body)).raise_for_status()

    async def bare(question: str) -> None:
        vector = await embedder.embed(generation, question)
        await link.call(
            lambda client: (
                client.collections.use(generation.chunks)
                .with_tenant(settings.tenant)
                .query.hybrid(
                    question,
                    vector=vector,
                    target_vector=VECTOR,
                    alpha=ALPHA,
                    fusion_type=HybridFusion.RELATIVE_SCORE,
                    query_properties=["text"],
                    limit=LIMIT,
                    return_properties=["text"],
                )
            )
        )

    try:
        await _in_turns(search, bare, questions(2 * _WARM * clients, "warm"), clients)
        took = await _in_turns(search, bare, questions(2 * searches, f"asked by {clients}"), clients)
    finally:
        await link.close()
        await http.aclose()
        embedder.close()
    (searched, summed) = took
    return Pair(
        clients,
        searches,
        percentile(searched, 0.5),
        percentile(searched, 0.95),
        percentile(summed, 0.5),
        percentile(summed, 0.95),
        round(percentile(searched, 0.95) / percentile(summed, 0.95), 2),
    )


async def _in_turns(
    search: Callable[[str], Awaitable[None]],
    bare: Callable[[str], Awaitable[None]],
    asked: Sequence[str],
    clients: int,
) -> tuple[list[float], list[float]]:
    """Seconds of each kind, in blocks: all clients do the one, then all the other, and the next time the other first.

    Were both mixed, the slower kind would hold most of the clients at any time, and each would be timed at a number
    of clients that nobody chose.
    """
    took: dict[Callable[[str], Awaitable[None]], list[float]] = {search: [], bare: []}

    async def client(kind: Callable[[str], Awaitable[None]], left: Iterator[str]) -> None:
        for question in left:
            began = time.perf_counter()
            await kind(question)
            took[kind].append(time.perf_counter() - began)

    # No question is asked twice: a vector that is remembered would cost one kind nothing.
    size = 2 * _BLOCK * clients
    for number, start in enumerate(range(0, len(asked), size)):
        both = asked[start : start + size]
        kinds = (search, bare) if number % 2 == 0 else (bare, search)
        for kind, block in zip(kinds, (both[::2], both[1::2]), strict=True):
            left = iter(block)
            await asyncio.gather(*(client(kind, left) for _ in range(clients)))
    return took[search], took[bare]


def questions(count: int, seed: str) -> list[str]:
    """Different questions of five to nine words of the corpus that the texts were made of."""
    chance = random.Random(seed)
    words = sorted({word.strip(".,;:()") for row in corpus.rows() for word in row.body.split() if len(word) > 3})
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(chance.sample(words, chance.randrange(5, 10)))] = None
    return list(found)
