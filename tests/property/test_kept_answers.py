"""A thousand random edits with kept answers in play: every answer is what would be written now, for this caller.

The judge is a plain model of the documents that knows neither versions nor chunks' fate: whoever asks gets an answer
from the chunks that the model ranks best for him, in their present form, and from nothing else. The index in memory
keeps all that the real one keeps, older chunks and manifests too, and its scores move with every write.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import StringIO

import pytest
import structlog

from query_api.answer_cache.store import MemoryStore
from query_api.answering.answers import Answer, at_once
from query_api.models import SearchRequest
from query_api.retrieval.ports import Ask, Candidate, Criteria, Live
from query_api.retrieval.visibility import Hit
from query_api.service import Still
from runtime import logs
from runtime.access import KnowledgeBase, Principal
from runtime.settings import QueryApi
from schemas.index.manifest import Manifest
from tests.unit.query_api.fake_index import LIVE, FakeEmbedder, manifest
from tests.unit.query_api.fakes import FakeDirectory, app_around

EDITS = 1000
LIMIT = 3
TOPICS = ("river", "heron", "otter", "delta", "gravel", "reed")
PLAIN = ("invoice", "printer", "canteen", "parking", "laptop", "badge")
"""Words of documents that no question asks for."""

WORDS_OF_A_QUESTION = 3
QUESTIONS = [" ".join(TOPICS[(at + step) % len(TOPICS)] for step in range(WORDS_OF_A_QUESTION)) for at in range(6)]


def caller(subject: str, *groups: str, tenant: str = "acme", admin: bool = False) -> Principal:
    scopes = frozenset({"query", "admin"} if admin else {"query"})
    return Principal(subject, tenant, scopes, {"*": "viewer"}, frozenset(groups))  # type: ignore[arg-type]  # literals


CALLERS = [
    caller("ann", "group:hr"),
    caller("bob", "group:hr"),
    caller("eve"),
    caller("root", admin=True),
    caller("ann", "group:hr", tenant="globex"),
]


@cache
def rank(question: str, text: str) -> int:
    return len(set(question.split()) & set(text.split()))


@dataclass
class Document:
    """What the source holds: paragraphs, each of them a chunk, and who may read them (None: everyone)."""

    paragraphs: list[str]
    access: tuple[str, ...] | None = None
    version: int = 0


@dataclass
class Corpus:
    """The plain model, and the index that follows it as its writers would write."""

    documents: dict[str, Document] = field(default_factory=dict)
    chunks: dict[str, Candidate] = field(default_factory=dict)
    manifests: dict[str, list[Manifest]] = field(default_factory=lambda: defaultdict(list))
    """By document; of older versions one or the other is still there."""

    clock: int = 0

    def put(self, key: str, paragraphs: list[str], access: tuple[str, ...] | None, late: random.Random) -> None:
        self.clock += 1
        self.documents[key] = Document(paragraphs, access, self.clock)
        # As the object hash has it: another text or another access list is another object, the same keeps its own.
        names = [f"{key}|{paragraph}|{access}" for paragraph in paragraphs]
        for name, paragraph in zip(names, paragraphs, strict=True):
            self.chunks[name] = Candidate(name, key, "shop", paragraph, 0.0)
        self.write(manifest(key, *names, major=self.clock, access=access))
        # Marks come after the manifest, or not yet; and a late writer may take one back.
        for name in [name for name, held in self.chunks.items() if held.document == key and name not in names]:
            if late.random() < 0.7:
                del self.chunks[name]

    def delete(self, key: str) -> None:
        self.clock += 1
        del self.documents[key]
        self.write(manifest(key, major=self.clock, grave=True))

    def write(self, version: Manifest) -> None:
        self.manifests[version.document] = [version, *self.manifests[version.document][:2]]

    def best(self, question: str, who: Principal) -> Seen:
        """What this caller is to be answered from."""
        readable = [
            (key, paragraph, document.version)
            for key, document in self.documents.items()
            if key.startswith(f"{who.tenant}/")
            and (who.admin or document.access is None or who.readers & set(document.access))
            for paragraph in document.paragraphs
        ]
        found = [item for item in readable if rank(question, item[1])]
        # The same order as the index has it: by words, then by the chunk's name.
        named = {item: f"{item[0]}|{item[1]}|{self.documents[item[0]].access}" for item in found}
        best = sorted(found, key=lambda item: (-rank(question, item[1]), named[item]))[:LIMIT]
        return [(key.partition("/")[2], text, version) for key, text, version in best]


class CorpusIndex:
    """ports.Index over a corpus: ranks by words, and gives back whatever is still there."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    async def live(self, *, keys: bool = False, anew: bool = False) -> Live:
        return LIVE

    async def candidates(self, live: Live, criteria: Criteria, ask: Ask) -> list[Candidate]:
        await asyncio.sleep(0)
        corpus, tenant = self._corpus, criteria.rights.tenant
        held = [
            Candidate(item.chunk_id, item.document, item.source, item.text, rank(ask.text, item.text) / corpus.clock)
            for item in corpus.chunks.values()
            if item.document.startswith(f"{tenant}/")
        ]
        found = [item for item in held if item.score > 0]
        return sorted(found, key=lambda item: (-item.score, item.chunk_id))[: ask.limit]

    async def manifests(self, live: Live, tenant: str, documents: Collection[str]) -> list[Manifest]:
        await asyncio.sleep(0)
        return [item for key in documents for item in self._corpus.manifests[key]]

    async def texts(self, live: Live, tenant: str, chunk_ids: Sequence[str]) -> dict[str, str]:
        raise AssertionError("a search does not ask for it")

    async def keys_in_use(self, live: Live, tenant: str) -> list[str]:
        raise AssertionError("a search does not ask for it")

    async def count(self, live: Live, criteria: Criteria) -> tuple[int, int]:
        raise AssertionError("a search does not ask for it")


Seen = list[tuple[str, str, int]]
"""What an answer is made from: document, text, version; versions are counted over all tenants."""


def seen(hits: Sequence[Hit]) -> Seen:
    return [(f"{hit.knowledge_base}/{hit.document_id}", hit.text, int(hit.version.rpartition(".")[2])) for hit in hits]


def written(question: str, hits: Seen) -> str:
    return f"{question}? " + "; ".join(f"{document} says {text} (v{version})" for document, text, version in hits)


class Generator:
    """The expensive model: says exactly what it was shown, and remembers for whom."""

    def __init__(self) -> None:
        self.wrote: list[tuple[str, str]] = []
        """(who, text) of every call."""
        self.who = ""

    def identity(self, question: str) -> str:
        return "generator"

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        text = written(question, seen(hits))
        self.wrote.append((self.who, text))
        await asyncio.sleep(0)
        return Answer(text, (), "generator")

    async def stream(self, question: str, hits: Sequence[Hit]) -> AsyncGenerator[str | Answer, None]:
        async for part in at_once(await self.answer(question, hits)):
            yield part


@pytest.fixture(autouse=True)
def _no_lines() -> Iterator[None]:
    logs.configure("error", StringIO())
    yield
    structlog.reset_defaults()


class World:
    """A corpus that is edited at random, and a query service with a cache over it."""

    def __init__(self, seed: int, store: MemoryStore) -> None:
        self.random = random.Random(seed)
        self.corpus = Corpus()
        self.generator = Generator()
        self.service = app_around(
            CorpusIndex(self.corpus),
            FakeEmbedder(),
            answerer=self.generator,
            store=store,
            directory=FakeDirectory(held=[KnowledgeBase("acme", "kb"), KnowledgeBase("globex", "kb")]),
            settings=QueryApi(per_document=0),
        ).service
        for tenant in ("acme", "globex"):
            for number in range(20):
                self.corpus.put(f"{tenant}/kb/d{number}", [self.paragraph(TOPICS)], self.access(), self.random)

    def paragraph(self, words: Sequence[str]) -> str:
        chosen = self.random.sample(words, self.random.randint(1, 3))
        return " ".join([*chosen, f"n{self.random.randint(0, 40)}"])

    def access(self) -> tuple[str, ...] | None:
        return self.random.choice([None, None, None, ("group:hr",), ("ann",), ("eve", "bob"), ()])

    def pick(self, words: Sequence[str]) -> str | None:
        keys = [
            key for key, held in self.corpus.documents.items() if set(" ".join(held.paragraphs).split()) & set(words)
        ]
        return self.random.choice(sorted(keys)) if keys else None

    def edit(self) -> str:
        """One edit. Returns its kind; `unrelated` touches no document that any question is answered from."""
        tenant = self.random.choice(["acme", "acme", "globex"])
        fresh = f"{tenant}/kb/new{self.corpus.clock}"
        kind = self.random.choice(["insert", "edit", "add", "delete", "revoke", "grant", "better", *["unrelated"] * 7])
        target = self.pick(TOPICS)
        if kind == "unrelated" or target is None:
            plain = self.pick(PLAIN) if self.random.random() < 0.7 else None
            if plain is not None and self.random.random() < 0.3:
                self.corpus.delete(plain)
            else:
                self.corpus.put(plain or fresh, [self.paragraph(PLAIN)], self.access(), self.random)
            return "unrelated"
        held = self.corpus.documents[target]
        match kind:
            case "insert":
                self.corpus.put(fresh, [self.paragraph(TOPICS)], self.access(), self.random)
            case "edit":
                self.corpus.put(target, [self.paragraph(TOPICS)], held.access, self.random)
            case "add":
                both = dict.fromkeys([*held.paragraphs[:3], self.paragraph(TOPICS)])
                self.corpus.put(target, list(both), held.access, self.random)
            case "delete":
                self.corpus.delete(target)
            case "revoke":
                self.corpus.put(target, held.paragraphs, (), self.random)
            case "grant":
                self.corpus.put(target, held.paragraphs, None, self.random)
            case "better":
                self.corpus.put(fresh, [self.random.choice(QUESTIONS)], None, self.random)
        return kind

    async def ask(self, question: str, who: Principal) -> Answer:
        """Ask, and judge the answer by the plain model."""
        expected = self.corpus.best(question, who)
        self.generator.who = named(who)
        calls = len(self.generator.wrote)
        searched, answer, _ = await self.service.answer(who, SearchRequest(query=question, limit=LIMIT), still(who))
        assert seen(searched.found.hits) == expected
        if expected:
            assert answer.text == written(question, expected)
            assert (named(who), answer.text) in self.generator.wrote, "written for this caller, now or earlier"
            assert answer.cached is (len(self.generator.wrote) == calls)
        return answer


def still(who: Principal) -> Still:
    """Nobody's key is revoked here."""

    async def asked() -> Principal:
        return who

    return asked


def named(who: Principal) -> str:
    return f"{who.tenant}/{who.subject}"


def room(entries: int = 10_000) -> MemoryStore:
    return MemoryStore(most_bytes=10_000_000, most_entries=entries, seconds=3600)


@pytest.mark.parametrize(("seed", "entries"), [(1, 10_000), (2, 20)])
async def test_every_answer_is_the_one_that_would_be_written_now_for_this_caller(seed: int, entries: int) -> None:
    world = World(seed, room(entries))
    kinds: Counter[str] = Counter()
    related = 0
    asked: dict[tuple[str, str], tuple[int, int]] = {}
    again = spared = 0
    for number in range(EDITS):
        kind = world.edit()
        kinds[kind] += 1
        related += kind != "unrelated"
        for _ in range(3):
            question, who = world.random.choice(QUESTIONS), world.random.choice(CALLERS)
            answer = await world.ask(question, who)
            before = asked.get((question, named(who)))
            # Asked before, and since then there were edits, none of which had to do with any question.
            if answer.model == "generator" and before is not None and before[0] == related and before[1] < number:
                again += 1
                spared += answer.cached
            asked[question, named(who)] = (related, number)

    assert len(kinds) == 8
    assert min(kinds.values()) > 20, "edits of each kind were made"
    assert again > 200
    assert entries < 100 or spared >= 0.8 * again, f"{spared} of {again}"


async def test_edits_in_the_middle_of_questions_mix_nothing_up() -> None:
    world = World(4, room())

    async def editing() -> None:
        for _ in range(EDITS):
            world.edit()
            await asyncio.sleep(0)

    async def asking(number: int) -> int:
        dice, cached = random.Random(number), 0
        while not edits.done():
            question, who = dice.choice(QUESTIONS), dice.choice(CALLERS)
            before = {key: held.version for key, held in world.corpus.documents.items()}
            searched, answer, _ = await world.service.answer(
                who, SearchRequest(query=question, limit=LIMIT), still(who)
            )
            hits = seen(searched.found.hits)
            if hits:
                assert answer.text == written(question, hits)
            for document, _, version in hits:
                assert version >= before.get(f"{who.tenant}/{document}", 0), "superseded before it was asked"
            cached += answer.cached
        return cached

    edits = asyncio.create_task(editing())
    found = await asyncio.gather(*(asking(number) for number in range(8)))

    assert sum(found) > 50
    await edits
