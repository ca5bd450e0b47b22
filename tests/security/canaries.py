"""Tenants whose documents are alike but for one word, and questions by which another tenant might get at it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from tests.integration.index_writer import Version

TENANTS = ("acme", "globex", "initech", "umbrella")
DOCUMENTS = 8
CANARIES = {tenant: f"{word}{number}" for tenant, word, number in zip(
    TENANTS, ("quixotry", "zephyrine", "marzipana", "oblivionx"), (7193, 2846, 5517, 9024), strict=True
)}  # fmt: skip
_MODES = ("hybrid", "vector", "keyword")


def text_of(tenant: str, number: int, part: int) -> str:
    """Near enough to the same text of every other tenant that any search finds them all, if it finds one."""
    return f"Plan {number}, part {part}: the budget of the river office is {CANARIES[tenant]} for the coming year."


def versions(tenant: str, major: int) -> Iterator[Version]:
    """The documents of a tenant at a version; all tenants' have the same names."""
    for number in range(DOCUMENTS):
        yield Version(
            f"plan-{number}",
            [text_of(tenant, number, part) for part in range(2)],
            major,
            tenant=tenant,
            source=f"src_{tenant}",
            metadata={"team": CANARIES[tenant], "year": 2000 + number},
            title=f"Plan {number} {CANARIES[tenant]}",
        )


def question(of: str, chance: random.Random) -> dict[str, Any]:
    """A search for what this tenant has, by whoever it is sent."""
    number, word = chance.randrange(DOCUMENTS), CANARIES[of]
    foreign = [
        f"{of}/handbook/plan-{number}",
        f"../{of}/handbook/plan-{number}",
        f"plan-{number}",
        f"\\u0000barrier/src_{of}",
    ]
    body: dict[str, Any] = {
        "query": chance.choice(
            [word, text_of(of, number, 0), f'"{word}"', f"budget {word[:5]}", f"{of} {word} *", "budget"]
        ),
        "mode": chance.choice(_MODES),
        "limit": chance.choice([1, 5, 50]),
    }
    wanted = chance.choice([None, *_filters(of, number, word)])
    if wanted is not None:
        body["filters"] = wanted
    if chance.random() < 0.3:
        body["doc_ids"] = chance.sample(foreign, chance.randint(1, len(foreign)))
    if chance.random() < 0.2:
        body["knowledge_bases"] = chance.choice(
            [["handbook"], [f"{of}/handbook"], [f"private_{of}"], ["handbook", "*"]]
        )
    if chance.random() < 0.2:
        body["explain"] = True
    return body


def _filters(of: str, number: int, word: str) -> Sequence[dict[str, Any]]:
    return (
        {"team": word},
        {"team": {"in": [word, "x"]}},
        {"team": {"ne": "x"}},
        {"source": f"src_{of}"},
        {"document_id": f"{of}/handbook/plan-{number}"},
        {"document_id": {"in": [f"plan-{number}", f"../{of}/handbook/plan-{number}"]}},
        {"or": [{"source": f"src_{of}"}, {"year": {"gte": 0}}]},
        {"and": [{"team": {"nin": ["x"]}}, {"or": [{"team": word}, {"source": {"ne": "x"}}]}]},
        {"tenant": of},
        {"knowledge_base": f"{of}/handbook"},
        {"year": {"gte": 1900}},
    )
