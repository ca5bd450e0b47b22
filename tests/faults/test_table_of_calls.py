"""The table of calls: what each kind of change of a 20-chunk document costs, counted where it is paid.

Before this: rows of a table, by change capture on the real servers. Texts are counted at the model server, objects by a
full scan of the index before and after: `written` are those that are new or were written once more, `retired` those
newly marked. The same table stands in streams/README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from weaviate.classes.query import MetadataQuery

from streams import generations
from tests.support.client import eventually
from tests.support.counted import CountedStack
from tests.support.product import Product, no_worker
from tests.support.quiesce import Receipts
from tests.support.source import Settled, TableSource, make_source

pytestmark = [pytest.mark.real, pytest.mark.timeout(300, func_only=True)]

SECTIONS = 20
HOT_UPDATES = 1_000
SETTLE_S = 120.0
TABLE = "CREATE TABLE {table} (id int PRIMARY KEY, title text, body text, team text, note text, readers text[])"
SOURCE: dict[str, Any] = {
    "text": "body",
    "title": "title",
    "content_type": "text/markdown",
    "metadata": ["team", "note"],
    "filterable": ["team"],
    "access": "readers",
}


@dataclass(frozen=True)
class Cost:
    """What a change cost: texts sent to the model, chunk objects written, chunk objects retired."""

    texts: int
    written: int
    retired: int


@dataclass(frozen=True)
class Line:
    """A line of the table: what is done, with which statement and values, and what it may cost at most."""

    what: str
    statement: str
    values: Callable[[str], tuple[Any, ...]]
    cost: Cost


def paragraph(seed: str, sentences: int = 8) -> str:
    """Sentences of words that no other paragraph has, about 70 bytes each."""
    draw = Random(seed)  # words, not secrets
    words = ["".join(draw.choices("bcdfglmnprstv", k=3)) + draw.choice("aeiou") for _ in range(sentences * 13)]
    return " ".join(" ".join(words[at : at + 13]).capitalize() + "." for at in range(0, len(words), 13))


def document(tag: str) -> str:
    """20 sections of a heading and about 540 bytes: one chunk each, for two together are too large for one."""
    return "\n\n".join(f"## Section {n} of {tag}\n\n{paragraph(f'{tag}/{n}')}" for n in range(1, SECTIONS + 1))


def edited(text: str) -> str:
    """With another second sentence in the middle section's paragraph."""
    head, mark, rest = text.partition(f"## Section {SECTIONS // 2} ")
    first, _, others = rest.partition(". ")
    return f"{head}{mark}{first}. Quite another thing is said here now. {others.partition('. ')[2]}"


def on_top(text: str) -> str:
    """With a paragraph before the first heading."""
    return f"{paragraph(text[:40])}\n\n{text}"


class Counter:
    """Counts what a source's changes cost."""

    def __init__(self, source: TableSource, counted: CountedStack) -> None:
        self._source, self._counted = source, counted

    def cost_of(self, act: Callable[[], None]) -> Cost:
        """Do it, and count what it cost once all has come to rest."""
        before, texts = self._objects(), self._texts()
        act()
        self._source.verify()
        after = self._objects()
        retired = {name for name, (_, gone) in after.items() if gone and not before.get(name, (0, False))[1]}
        written = {name for name, (at, _) in after.items() if before.get(name, (0, False))[0] != at} - (
            retired & before.keys()
        )
        return Cost(self._texts() - texts, len(written), len(retired))

    def _texts(self) -> int:
        return int(self._counted.models.stats()["texts"])

    def _objects(self) -> dict[str, tuple[float, bool]]:
        """Every chunk object of the source's knowledge base, retired ones too: when it was written, and the mark."""
        product, base = self._source.product, self._source.spec.knowledge_base
        chunks = product.weaviate.collections.use(generations.live(product.weaviate).chunks)
        asked = MetadataQuery(last_update_time=True)
        found: dict[str, tuple[float, bool]] = {}
        if not chunks.tenants.exists(product.tenant):
            return found  # nobody has written anything yet
        for item in chunks.with_tenant(product.tenant).iterator(return_metadata=asked):
            if item.properties["knowledge_base"] == base:
                assert item.metadata.last_update_time is not None
                found[str(item.uuid)] = (item.metadata.last_update_time.timestamp(), bool(item.properties["retired"]))
        return found


INSERT = "INSERT INTO {table} VALUES (%s, 'First title', %s, 'red', 'a note', '{{ann,bob}}')"
BODY = "UPDATE {table} SET body = %s WHERE id = 1"

LINES = [
    Line("insert", INSERT, lambda tag: (1, document(tag)), Cost(20, 20, 0)),
    Line("edit one sentence", BODY, lambda tag: (edited(document(tag)),), Cost(1, 1, 1)),
    Line("title only", "UPDATE {table} SET title = %s WHERE id = 1", lambda _: ("Second title",), Cost(0, 0, 0)),
    Line("metadata that nobody filters on", "UPDATE {table} SET note = %s WHERE id = 1", lambda _: ("another",),
         Cost(0, 0, 0)),
    Line("metadata that one can filter on", "UPDATE {table} SET team = %s WHERE id = 1", lambda _: ("blue",),
         Cost(0, 20, 20)),
    Line("same row again", "UPDATE {table} SET body = body WHERE id = %s", lambda _: (1,), Cost(0, 0, 0)),
    Line("second document with the same text", INSERT, lambda tag: (2, edited(document(tag))), Cost(0, 20, 0)),
    Line("paragraph on top", BODY, lambda tag: (on_top(edited(document(tag))),), Cost(1, 1, 0)),
    Line("revert to an older text", BODY, lambda tag: (document(tag),), Cost(0, 1, 2)),
    Line("access list change", "UPDATE {table} SET readers = %s WHERE id = 1", lambda _: (["ann"],), Cost(0, 20, 20)),
    Line("delete", "DELETE FROM {table} WHERE id = %s", lambda _: (1,), Cost(0, 0, 20)),
    Line("re-add after delete", INSERT, lambda tag: (1, document(tag)), Cost(0, 20, 0)),
]  # fmt: skip


@pytest.fixture
def source(counted_product: Product, counted_receipts: Receipts) -> Iterator[TableSource]:
    """A table with everything that a change can touch, applied and empty."""
    with make_source(counted_product, counted_receipts, "calls", TABLE, **SOURCE) as made:
        made.apply()
        yield made


def test_each_kind_of_change_costs_what_the_table_says(
    source: TableSource, counted: CountedStack, record_property: Callable[[str, object], None]
) -> None:
    counter, tag = Counter(source, counted), source.spec.name
    measured: dict[str, Cost] = {}
    for line in LINES:

        def act(line: Line = line) -> None:
            source.execute(line.statement, line.values(tag))
            source.settle(1, SETTLE_S)

        measured[line.what] = counter.cost_of(act)
        record_property(line.what, measured[line.what])

    print(told(measured))  # with -s: the table for the README
    assert measured == {line.what: line.cost for line in LINES}
    owners = {chunk.document for chunk in source.product.scan(source.spec.knowledge_base, source.spec.name).chunks}
    assert {owner.rpartition(":")[2] for owner in owners} == {"1", "2"}


def test_a_hot_row_is_indexed_once_however_often_it_changed_while_the_worker_stood_still(
    source: TableSource, counted: CountedStack
) -> None:
    source.execute(INSERT, (1, document(source.spec.name)))
    source.settle(1, SETTLE_S)
    counter, settled = Counter(source, counted), list[Settled]()

    def act() -> None:
        with no_worker(source.product, "index"):
            for number in range(HOT_UPDATES):
                text = document(source.spec.name).replace("Section 7 of", f"Section 7, draft {number}, of")
                source.execute(BODY, (text,))
            eventually(lambda: depth_of_index(source.product) >= HOT_UPDATES, 120)
        settled.append(source.settle(HOT_UPDATES, SETTLE_S))

    cost = counter.cost_of(act)

    (found,) = settled
    ended = found.receipts
    indexed = [receipt for receipt in ended if receipt.stage.value == "INDEXED"]
    superseded = [receipt for receipt in ended if receipt.stage.value == "SUPERSEDED"]
    which = [at for at, receipt in enumerate(ended) if receipt in indexed]
    print(f"hot row: of {HOT_UPDATES} updates {which} indexed, {len(superseded)} superseded, {cost}")
    assert (len(indexed), len(superseded)) == (1, HOT_UPDATES - 1)
    # At the model server a worker that starts may also ask for the length of a vector, by a word of its own.
    assert (found.embedded, cost.written, cost.retired) == (1, 1, 1)


def depth_of_index(product: Product) -> float:
    """Changes that wait for the index worker, by the lag exporter."""
    return product.metric("lag-exporter", "thalweg_queue_depth", stage="index")


def told(measured: dict[str, Cost]) -> str:
    """The measured table in Markdown."""
    lines = [f"| {what} | {cost.texts} | {cost.written} | {cost.retired} |" for what, cost in measured.items()]
    return "\n".join(
        ["", "| change | texts embedded | chunks written | chunks retired |", "| --- | --- | --- | --- |", *lines]
    )
