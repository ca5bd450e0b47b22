"""Plays the scenarios on the real servers: SQL in, searches out, and at the end a full scan against the table.

Before this: `*.yaml`, each a case that change capture must get right. All sources are applied side by side first, as
each makes the capture worker start anew.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.scenarios.acts import do_act, refuse_and_mend
from tests.scenarios.model import Act, Checks, Scenario, Step, load_scenarios
from tests.support.client import eventually
from tests.support.product import Product
from tests.support.quiesce import Receipts, queue_depths
from tests.support.source import Captured, TableSource, new_source

FOLDER = Path(__file__).parent
SCENARIOS = load_scenarios(FOLDER)
SETTLE_S = 120.0
SNAPSHOTS_S = 700.0
"""Connect makes more than thirty connectors (six minutes on two idle cores), and the snapshots go through the bulk
lane, whose worker gives way to everything else."""

Applied = dict[str, Future[TableSource]]


@pytest.fixture(scope="module")
def applied(request: pytest.FixtureRequest, product: Product, receipts: Receipts) -> Iterator[Applied]:
    """The sources of all scenarios that are to run, applied."""
    played = [
        item.callspec.params.get("scenario")
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    ]
    wanted = {scenario.name for scenario in played if isinstance(scenario, Scenario)}
    made: list[TableSource] = []

    def prepare(scenario: Scenario) -> TableSource:
        source = new_source(product, receipts, scenario.name, **scenario.source)
        made.append(source)
        source.execute(scenario.table)
        if scenario.identity == "full":
            source.execute("ALTER TABLE {table} REPLICA IDENTITY FULL")
        for statement in scenario.before:
            source.execute(statement)
        if scenario.refusal is not None:
            refuse_and_mend(scenario.refusal, source)
        with writing(scenario.snapshot.meanwhile, source):
            source.apply()
        return source

    with ThreadPoolExecutor(4) as workers:
        yield {scenario.name: workers.submit(prepare, scenario) for scenario in SCENARIOS if scenario.name in wanted}
        for failure in workers.map(_removed, made):
            assert failure is None, failure


@pytest.mark.real
@pytest.mark.timeout(1500, func_only=True)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_index_follows_the_table(scenario: Scenario, applied: Applied, product: Product) -> None:
    # All are applied, and their snapshots indexed, before the first is played: nobody else embeds meanwhile.
    topics = {other.result().spec.topic for other in applied.values() if other.exception(SNAPSHOTS_S) is None}
    eventually(
        lambda: not any(queue_depths(product, topics & product.topics.partitions().keys()).values()), SNAPSHOTS_S
    )
    source = applied[scenario.name].result()
    if scenario.snapshot.changes is not None:
        settled = source.settle(scenario.snapshot.changes, SETTLE_S)
        if scenario.snapshot.embedded is not None:
            assert settled.embedded == scenario.snapshot.embedded
        check(scenario.snapshot, source, "the snapshot")
    for number, step in enumerate(scenario.steps, start=1):
        play(step, source, product, f"step {number}")
    source.verify()


def play(step: Step, source: TableSource, product: Product, where: str) -> None:
    """Do a step's SQL and acts, and check what it says."""
    embedded_before = embedded_texts(product)
    for deed in step.do:
        if isinstance(deed, Act):
            do_act(deed, source)
        else:
            source.execute(deed)
    if step.last is not None:
        settled = source.settle_to(step.last.text, step.last.count, SETTLE_S)
    else:
        assert step.changes is not None
        settled = source.settle(step.changes, SETTLE_S, parked=sum(step.dead_letters.values()))
    if any(isinstance(deed, Act) for deed in step.do):
        source.rest()  # barriers and tombstones have no receipts of their own
    if step.embedded is not None:
        assert settled.embedded == step.embedded, where
        embedded = embedded_texts(product) - embedded_before
        assert embedded == step.embedded, f"{where}: {embedded:g} texts went to the model"
    if step.outcomes is not None:
        assert Counter(receipt.stage.value for receipt in settled.receipts) == step.outcomes, where
    assert Counter(settled.parked) == step.dead_letters, where
    if step.records_hold is not None:
        assert any(step.records_hold.encode() in record.value for record in settled.records), (
            f"{where}: the case did not arise"
        )
    if step.same_row:
        assert came_by(step.same_row, settled.records, product), f"{where}: no row came by {step.same_row}"
    check(step, source, where)


def embedded_texts(product: Product) -> float:
    """Texts that went to the model, for changes of either lane."""
    return sum(product.metric(name, "thalweg_embedding_texts_total") for name in ("index", "index-bulk"))


def came_by(wanted: Sequence[str], records: Sequence[Captured], product: Product) -> bool:
    """Whether one row came by all these operations, in this order."""
    ways: dict[bytes | None, list[str]] = defaultdict(list)
    for record in records:
        ways[record.key].append(product.codec.decode_any(record.value)["op"])

    def holds(way: Sequence[str]) -> bool:
        left = iter(way)
        return all(operation in left for operation in wanted)

    return any(holds(way) for way in ways.values())


@contextmanager
def writing(statements: Sequence[str], source: TableSource) -> Iterator[None]:
    """Somebody who writes to the table in a circle meanwhile, from before to after."""
    done, failed, rounds = threading.Event(), list[Exception](), 0

    def write() -> None:
        nonlocal rounds
        with source.another_session() as session:
            while not done.is_set():
                for statement in statements:
                    session.execute(source.query(statement.replace("{n}", str(rounds))))
                rounds += 1

    def run() -> None:
        try:
            write()
        except Exception as error:  # noqa: BLE001  told in the test's thread
            failed.append(error)

    if not statements:
        yield
        return
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(30)
    assert not failed, failed
    assert rounds, "nobody wrote meanwhile"


def check(wanted: Checks, source: TableSource, where: str) -> None:
    """Ask the APIs, at once: the receipts say that all is searchable."""
    client, base, name = source.product.client, source.spec.knowledge_base, source.spec.name
    for find in wanted.finds:
        hits = client.search(find.query, base, mode=find.mode, limit=10)
        mine = [hit["text"] for hit in hits if hit["document_id"] == f"{name}:{find.key}"]
        assert mine, f"{where}: {find.query!r} does not find {find.key}, but {[hit['document_id'] for hit in hits]}"
        assert find.text is None or any(find.text in text for text in mine), f"{where}: {find.query!r} finds {mine}"
    for query in wanted.misses:
        hits = client.search(query, base, mode="keyword", limit=10)
        assert not hits, f"{where}: {query!r} finds {[(hit['document_id'], hit['text'][:80]) for hit in hits]}"
    for key in wanted.exist:
        assert client.document(f"{name}:{key}", base) is not None, f"{where}: document {key} is not there"
    for key in wanted.gone:
        assert client.document(f"{name}:{key}", base) is None, f"{where}: document {key} is still there"
    for key, count in wanted.chunks.items():
        document = client.document(f"{name}:{key}", base)
        assert document is not None, f"{where}: document {key} is not there"
        assert len(document["chunks"]) == count, f"{where}: {key} has {len(document['chunks'])} chunks"


def test_a_scenario_with_an_unknown_field_is_refused() -> None:
    raw = SCENARIOS[0].model_dump()
    raw["steps"] = [{"do": ["SELECT 1"], "changes": 0, "fnds": []}]

    with pytest.raises(ValidationError, match=r"steps\.0\.fnds"):
        Scenario.model_validate(raw)


def test_a_folder_without_scenarios_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no scenario"):
        load_scenarios(tmp_path)


def _removed(source: TableSource) -> Exception | None:
    try:
        source.remove()
    except Exception as error:  # noqa: BLE001  the others are to be removed too
        return error
    return None
