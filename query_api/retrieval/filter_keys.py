"""Which metadata keys a caller can filter on: those that some chunk in its reach has, and no other tenant's.

Before it: `service.py`, with filters as they came, and what the knowledge bases declare. After it: `filters.py`, which
is given these keys only, so that a key of another tenant, and its type, are as unknown as one that nobody has, and as
one that is not declared; `ports.Index`, which is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping

from query_api.retrieval.filters import DEEPEST, MOST_TESTS
from query_api.retrieval.ports import Criteria, Index, IndexUnavailable, Live
from query_api.retrieval.rights import Rights
from runtime.access import KnowledgeBase

_MOST_KEPT = 10_000
"""Keys that were found, each with whose reach it was found in: about 5 MB."""

_HINT_S = 60.0
_MOST_HINTS = 1_000
_MOST_QUESTIONS = 4
"""To the store at once, for one search."""


class FilterKeys:
    """Asks the index, and remembers what it found: a key that is there seldom goes, one that is not may come any time.

    clock counts seconds.
    """

    def __init__(self, index: Index, clock: Callable[[], float] = time.monotonic) -> None:
        self._index = index
        self._clock = clock
        self._found: OrderedDict[Hashable, None] = OrderedDict()
        self._hints: OrderedDict[Hashable, tuple[float, list[str]]] = OrderedDict()

    async def known(self, live: Live, rights: Rights, named: set[str]) -> dict[str, dict[str, str]]:
        """Of the named keys those in reach: key -> data type -> property. Raises IndexUnavailable, NoIndex."""
        reach = _reach(live, rights)
        wanted = [(key, *kind) for key in sorted(named) for kind in live.keys.get(key, {}).items()]
        limit = asyncio.Semaphore(_MOST_QUESTIONS)

        async def there(data_type: str, name: str) -> bool:
            if (*reach, name) in self._found:
                self._found.move_to_end((*reach, name))
                return True
            async with limit:
                if not await self._index.has(live, Criteria(rights), name, data_type):
                    return False
            self._found[*reach, name] = None
            if len(self._found) > _MOST_KEPT:
                self._found.popitem(last=False)
            return True

        answers = await asyncio.gather(*(there(data_type, name) for _, data_type, name in wanted))
        keys: dict[str, dict[str, str]] = {}
        for (key, data_type, name), yes in zip(wanted, answers, strict=True):
            if yes:
                keys.setdefault(key, {})[data_type] = name
        return keys

    async def hint(self, live: Live, rights: Rights, permitted: frozenset[str] | None) -> str:
        """What a caller may use instead of a key that is not known, of the permitted ones; at most a minute old."""
        told = "" if permitted is None else " (of documents' own keys only what every knowledge base searched permits)"
        reach, now = _reach(live, rights), self._clock()
        until, keys = self._hints.get(reach, (0.0, []))
        if until <= now:
            try:
                keys = await self._index.keys_in_use(live, Criteria(rights))
            except IndexUnavailable:
                # The refusal stands without it: over millions of chunks the question takes longer than a search may.
                return f"use document_id, source, or a key that GET /v1/documents/{{id}} shows in `metadata`{told}"
            self._hints[reach] = (now + _HINT_S, keys)
            self._hints.move_to_end(reach)
            if len(self._hints) > _MOST_HINTS:
                self._hints.popitem(last=False)
        usable = keys if permitted is None else permitted.intersection(keys)
        return f"use one of {', '.join(sorted({*usable, 'source', 'document_id'}))}{told}"


def named_keys(raw: object) -> set[str]:
    """The keys that filters name, as far as `filters.parse` would read them."""
    found: set[str] = set()
    _name(raw, 1, found)
    return found


def permitted_keys(bases: Iterable[KnowledgeBase]) -> frozenset[str] | None:
    """What a search over all of these knowledge bases may filter on; None: every key, for none of them declares any.

    A key counts where each knowledge base that declares its keys has declared it: else `ne` and the like would tell
    documents apart by a key that their own knowledge base keeps from filters.
    """
    declared = [frozenset(base.filterable) for base in bases if base.filterable is not None]
    return frozenset.intersection(*declared) if declared else None


def metadata_keys(raw: object, permitted: frozenset[str] | None) -> set[str]:
    """Of the keys that filters name those that only documents give, and that are permitted."""
    found = named_keys(raw) - {"document_id", "source"}
    return found if permitted is None else found & permitted


def _name(raw: object, depth: int, found: set[str]) -> None:
    if depth > DEEPEST or not isinstance(raw, Mapping):
        return
    for key, value in raw.items():
        if len(found) > MOST_TESTS:
            return
        if key not in ("and", "or"):
            found.add(str(key))
        elif isinstance(value, list):
            for item in value:
                _name(item, depth + 1, found)


def _reach(live: Live, rights: Rights) -> tuple[Hashable, ...]:
    return (live.generation.name, rights.tenant, tuple(sorted(rights.bases.items())), rights.readers)
