"""An access list has one meaning, whichever way it came: in a row, a form, JSON, an event; and for whoever asks."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.document_body import DocumentRefused, parse_published
from connectors.upload_api.form import parse_form
from runtime.access import Principal
from runtime.web.problems import Problem
from schemas.access_names import access_name, access_names
from schemas.records import Event, Origin, Position
from schemas.source import parse_source
from streams.core.changes import Row, event_change, row_change

SPEC = parse_source("name: notes\nknowledge_base: kb\ntable: notes\nkey: id\ntext: body\naccess: readers\n")
POSITION = Position("cdc/notes", 1, 1, 1, 1)
ORIGIN = Origin("cdc", "notes", "1", "t", 0, 0)

BLANKS = st.sampled_from([None, "", " ", "\t", "\n ", "\u2003"])
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=","), min_size=1, max_size=12)
ELEMENTS = st.lists(st.one_of(BLANKS, NAMES, st.sampled_from(["None", "null", "NULL"])), max_size=6)


def of_row(value: Any) -> list[str] | None:
    """What becomes of an access column's value."""
    row = Row("u", {"id": "1"}, None, {"id": "1", "body": "text", "readers": value}, POSITION)
    return row_change("acme", SPEC, row, ORIGIN).access


def admitted(subject: str, access: list[str] | None) -> bool:
    """True if the list admits a caller of this name by name (not because there is no list)."""
    caller = Principal(subject, "acme", frozenset({"query"}), {"*": "viewer"})
    return access is not None and not caller.readers.isdisjoint(access)


@given(ELEMENTS)
def test_a_value_that_names_nobody_admits_nobody(elements: list[str | None]) -> None:
    """Not a caller called None, and not one whose name is blank; and the list does not disappear for it."""
    access = of_row(elements)

    assert access is not None
    assert access == sorted({name for item in elements if (name := access_name(item))})
    for subject in ("", " ", "\t"):
        assert not admitted(subject, access)
    written = {item.strip() for item in elements if item is not None}
    assert admitted("None", access) is ("None" in written)


@given(st.lists(NAMES, max_size=6))
def test_every_way_in_makes_the_same_list(names: list[str]) -> None:
    """A text[] column, a column with commas, an event of a source system, and where blanks are no mistake, a form."""
    wanted = access_names(names)
    event = Event("acme", "kb", "1", text="x", access=list(names))

    assert of_row(names) == wanted
    assert of_row(",".join(names)) == wanted
    assert event_change(event, ORIGIN, timestamp_ms=1).access == wanted
    if all(access_name(name) for name in names):
        published = parse_published({"id": "1", "text": "x", "knowledge_base": "kb", "access": names})
        form = parse_form({"knowledge_base": "kb", "access": json.dumps(names)})
        assert published.access == form.access == wanted


@given(NAMES)
def test_whoever_is_named_is_admitted_and_by_that_name_only(name: str) -> None:
    """However the name was composed or padded."""
    if access_name(name) is None:
        return
    assert admitted(f" {name} ", of_row([name]))
    assert not admitted(name + "x", of_row([name]))


def test_no_list_is_no_list_and_an_empty_one_is_nobody() -> None:
    """NULL leaves it to the knowledge base; '' and '{}' do not."""
    assert of_row(None) is None
    assert of_row("") == []
    assert of_row([]) == []
    assert of_row(" , ,") == []


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_blank_field_of_a_form_never_opens_a_document(blank: str) -> None:
    """Nobody sends the field to mean everyone."""
    with pytest.raises(Problem) as caught:
        parse_form({"knowledge_base": "kb", "access": blank})
    assert caught.value.errors[0].field == "access"
    assert parse_form({"knowledge_base": "kb"}).access is None
    assert parse_form({"knowledge_base": "kb", "access": "[]"}).access == []
    assert parse_form({"knowledge_base": "kb", "access": ", ,"}).access == []


@pytest.mark.parametrize("names", [[""], [" "], ["a", "\u2003"]])
def test_a_blank_name_in_json_is_a_mistake(names: list[str]) -> None:
    """A program can be told."""
    with pytest.raises(DocumentRefused):
        parse_published({"id": "1", "text": "x", "knowledge_base": "kb", "access": names})
