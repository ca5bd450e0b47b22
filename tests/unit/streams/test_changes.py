"""Row changes and events become document changes: every operation, and what must never become text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from schemas.records import Event, Operation, Origin
from schemas.source import DeletedRule, SourceError, SourceSpec, parse_source
from streams.core.changes import (
    UNAVAILABLE,
    NotAChange,
    barrier,
    event_change,
    read_envelope,
    row_change,
    unavailable_columns,
)

SPEC = parse_source(
    "name: articles\nknowledge_base: kb\ntable: public.articles\nkey: [id]\ntext: [title, body]\ntitle: title\n"
    "metadata: {kind: category}\naccess: readers\n"
)
ORIGIN = Origin("cdc", "articles", "7", SPEC.topic, 0, 3)
ROW = {"id": 7, "title": "Heron", "body": "Stands in the river.", "category": "birds", "readers": ["b", "a"]}


def envelope(
    operation: str, before: dict[str, Any] | None, after: dict[str, Any] | None, lsn: int = 42
) -> dict[str, Any]:
    """As Debezium's PostgreSQL connector writes it, as far as it is read."""
    return {
        "op": operation,
        "before": before,
        "after": after,
        "source": {"lsn": lsn, "ts_ms": 1_000, "snapshot": "false"},
    }


def change(spec: SourceSpec, operation: str, before: Any, after: Any, **more: Any) -> Any:
    row = read_envelope(spec, {"id": 7}, envelope(operation, before, after), epoch=2)
    return row_change("t", spec, row, ORIGIN, **more)


@pytest.mark.parametrize(("operation", "phase"), [("c", 1), ("u", 1), ("r", 0)])
def test_a_written_row_becomes_an_upsert(operation: str, phase: int) -> None:
    """Text by the template, title, metadata and access by their columns, position by LSN; a snapshot row is older."""
    made = change(SPEC, operation, None, ROW)

    assert (made.operation, made.key) == (Operation.UPSERT, "t/kb/articles:7")
    assert made.text == "Heron\n\nStands in the river."
    assert (made.title, made.metadata, made.access) == ("Heron", {"kind": "birds"}, ["a", "b"])
    assert (made.position.stream, made.position.epoch, made.position.major, made.position.phase) == (
        "cdc/articles", 2, 42, phase,
    )  # fmt: skip


def test_a_deleted_row_becomes_a_deletion_without_its_columns() -> None:
    """REPLICA IDENTITY DEFAULT gives the key alone."""
    assert change(SPEC, "d", {"id": 7, "title": None, "body": None}, None).operation is Operation.DELETE


def test_a_truncate_becomes_a_barrier() -> None:
    """It has no key; it ends every older document of the source."""
    row = read_envelope(SPEC, None, envelope("t", None, None), epoch=1)
    made = row_change("t", SPEC, row, ORIGIN)

    assert (made.operation, made.document_id, made.origin.source) == (Operation.BARRIER, "source:articles", "articles")


@pytest.mark.parametrize("placeholder", [UNAVAILABLE, UNAVAILABLE.encode(), ["x", UNAVAILABLE]])
def test_the_placeholder_of_a_long_column_never_becomes_text(placeholder: Any) -> None:
    """It is resolved from `before`, else from the source, else refused."""
    after = {**ROW, "body": placeholder, "title": "New"}
    cold = read_envelope(SPEC, {"id": 7}, envelope("u", None, after), epoch=1)
    warm = read_envelope(SPEC, {"id": 7}, envelope("u", ROW, after), epoch=1)

    assert unavailable_columns(SPEC, cold) == ("body",)
    assert unavailable_columns(SPEC, warm) == ()
    assert row_change("t", SPEC, warm, ORIGIN).text == "New\n\nStands in the river."
    assert row_change("t", SPEC, cold, ORIGIN, fetched=ROW).text == "New\n\nStands in the river."
    with pytest.raises(NotAChange, match="'body' was left alone"):
        row_change("t", SPEC, cold, ORIGIN)


def test_a_null_beside_the_placeholder_is_not_believed() -> None:
    """A key-only `before` is padded with NULLs, and what was left alone is long, hence not NULL."""
    row = read_envelope(SPEC, {"id": 7}, envelope("u", {**ROW, "body": None}, {**ROW, "body": UNAVAILABLE}), epoch=1)

    assert unavailable_columns(SPEC, row) == ("body",)
    assert row_change("t", SPEC, row, ORIGIN, fetched=ROW).text == "Heron\n\nStands in the river."


def test_a_streamed_change_beats_a_snapshot_row_of_a_greater_lsn() -> None:
    """Its transaction was open while the slot was made: the snapshot did not see it."""
    snapshot = read_envelope(SPEC, {"id": 7}, envelope("r", None, ROW, lsn=900), epoch=1).position
    streamed = read_envelope(SPEC, {"id": 7}, envelope("u", None, ROW, lsn=800), epoch=1).position

    assert streamed.newer_than(snapshot)
    assert not snapshot.newer_than(streamed)


@pytest.mark.parametrize(("mark", "ends"), [("last", True), ("last_in_data_collection", True), ("true", False)])
def test_the_last_row_of_a_snapshot_is_known(mark: str, *, ends: bool) -> None:
    """It also becomes a barrier, which ends rows of an attempt that was cut off, and none of its own."""
    raw = envelope("r", None, ROW, lsn=900)
    raw["source"]["snapshot"] = mark
    row = read_envelope(SPEC, {"id": 7}, raw, epoch=1)
    earlier = read_envelope(SPEC, {"id": 8}, envelope("r", None, ROW, lsn=700), epoch=1)

    assert row.ends_snapshot is ends
    end = barrier("t", SPEC, row, ORIGIN)
    assert end.operation is Operation.BARRIER
    assert end.position.newer_than(earlier.position)
    assert not end.position.newer_than(row.position)


@pytest.mark.parametrize(
    ("rule", "value", "deleted"),
    [
        (DeletedRule("category"), "gone", True),
        (DeletedRule("category"), None, False),
        (DeletedRule("category", ("archived",)), "archived", True),
        (DeletedRule("category", ("archived",)), "birds", False),
    ],
)
def test_a_soft_deleted_row_is_a_deletion(rule: DeletedRule, value: str | None, *, deleted: bool) -> None:
    """By a column that is set, or holds one of some values."""
    made = change(replace(SPEC, deleted=rule), "u", None, {**ROW, "category": value})

    assert made.operation is (Operation.DELETE if deleted else Operation.UPSERT)


def test_a_compound_key_names_the_document() -> None:
    """In the order of the key's columns."""
    spec = replace(SPEC, key=("b", "a"))
    row = read_envelope(spec, {"a": 1, "b": "x"}, envelope("d", None, None), epoch=1)

    assert row_change("t", spec, row, ORIGIN).document_id == "articles:x,1"


@pytest.mark.parametrize("value", [{"x": 1.0, "y": 2.0}, [{"x": 1.0}]])
def test_a_value_that_comes_in_pieces_is_no_text(value: Any) -> None:
    """A column became a point, say: its parts written down would be found as if somebody had said them."""
    with pytest.raises(NotAChange, match="'title' is of a type that does not read as text"):
        change(SPEC, "c", None, {**ROW, "title": value})


def test_null_columns_are_empty_text() -> None:
    """NULL is not the word None."""
    assert change(SPEC, "c", None, {**ROW, "title": None, "body": None}).text == ""


@pytest.mark.parametrize(
    "broken",
    [
        {"op": "u"},
        {"source": {"lsn": 1, "ts_ms": 1}},
        {"op": "u", "source": {"lsn": None, "ts_ms": 1}},
    ],
)
def test_what_is_no_envelope_is_refused(broken: dict[str, Any]) -> None:
    """With a text that says what is missing."""
    with pytest.raises(NotAChange):
        read_envelope(SPEC, {}, broken, epoch=1)


@pytest.mark.parametrize("after", [None, {"id": 7, "title": "x"}])
def test_a_row_without_a_column_that_the_source_uses_is_refused(after: Any) -> None:
    """A dropped column must not silently become an empty text."""
    with pytest.raises(NotAChange):
        change(SPEC, "u", None, after)


def test_a_key_change_is_a_deletion_and_an_upsert_of_two_documents() -> None:
    """As Debezium writes it: each is right alone, in any order."""
    old = read_envelope(SPEC, {"id": 7}, envelope("d", ROW, None), epoch=1)
    new = read_envelope(SPEC, {"id": 8}, envelope("c", None, {**ROW, "id": 8}), epoch=1)

    made = [row_change("t", SPEC, row, ORIGIN) for row in (old, new)]

    assert [(m.document_id, m.operation) for m in made] == [
        ("articles:7", Operation.DELETE), ("articles:8", Operation.UPSERT),
    ]  # fmt: skip


def test_an_event_is_positioned_by_its_partition_and_offset() -> None:
    """And one with neither text nor deletion is refused."""
    origin = Origin("event", "crm", "x", "events", 3, 11)
    made = event_change(Event("t", "kb", "x", text="hello"), origin, timestamp_ms=5)

    assert (made.position.stream, made.position.major, made.position.at_ms) == ("events/3", 11, 5)
    with pytest.raises(NotAChange):
        event_change(Event("t", "kb", "x"), origin, timestamp_ms=5)


@pytest.mark.parametrize(
    ("change_", "says"),
    [
        ("nme: x\n", "unknown fields"),
        ("name: Bad-Name\nknowledge_base: kb\ntable: t\ntext: body\n", "name"),
        ("name: x\nknowledge_base: a/b\ntable: t\ntext: body\n", "knowledge_base"),
        ("name: x\nknowledge_base: kb\ntable: t\n", "missing"),
        ("name: x\nknowledge_base: kb\ntable: t\ntext: 5\n", "text"),
        ("name: x\nknowledge_base: kb\ntable: t\ntext: body\nmetadata: 3\n", "metadata"),
        ("name: x\nknowledge_base: kb\ntable: t\ntext: body\ndeleted: {is: 1}\n", "deleted"),
        ("[", "not YAML"),
        ("just text", "mapping"),
    ],
)
def test_a_wrong_source_file_names_its_field(change_: str, says: str) -> None:
    """And the file."""
    with pytest.raises(SourceError, match=says) as caught:
        parse_source(change_, "x.yaml")
    assert "x.yaml" in str(caught.value)
