"""Filters as callers write them: what each form means, and how each wrong one is told."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.retrieval.filters import AllOf, AnyOf, Comparison, FilterRefused, Known, Operator, parse

KNOWN = Known(
    keys={
        "year": {"number": "f_n_year"},
        "team": {"text": "f_s_team"},
        "tags": {"text[]": "f_l_tags"},
        "draft": {"boolean": "f_b_draft"},
        "mixed": {"text": "f_s_mixed", "number": "f_n_mixed", "text[]": "f_l_mixed"},
    },
    documents=lambda name: [] if name == "unknown" else [f"acme/a/{name}", f"acme/b/{name}"],
)


def number(name: str, operator: Operator, value: float) -> Comparison:
    return Comparison(f"f_n_{name}", "number", operator, value)


def mixed(operator: Operator, value: str) -> tuple[Comparison, ...]:
    return (Comparison("f_s_mixed", "text", operator, value), Comparison("f_l_mixed", "text[]", operator, value))


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ({"year": 2020}, Comparison("f_n_year", "number", "eq", 2020.0)),
        ({"year": {"gte": 1, "lt": 2}}, AllOf((number("year", "gte", 1), number("year", "lt", 2)))),
        ({"team": {"in": ["a", "b"]}}, Comparison("f_s_team", "text", "in", ("a", "b"))),
        ({"draft": True}, Comparison("f_b_draft", "boolean", "eq", True)),
        ({"mixed": 3}, Comparison("f_n_mixed", "number", "eq", 3.0)),
        ({"mixed": "x"}, AnyOf(mixed("eq", "x"))),
        ({"mixed": {"ne": "x"}}, AllOf(mixed("ne", "x"))),
        ({"mixed": {"gt": "x"}}, Comparison("f_s_mixed", "text", "gt", "x")),
        ({"source": "wiki"}, Comparison("source", "text", "eq", "wiki")),
        ({"document_id": "d"}, Comparison("document", "text", "in", ("acme/a/d", "acme/b/d"))),
        ({"document_id": {"nin": ["d"]}}, Comparison("document", "text", "nin", ("acme/a/d", "acme/b/d"))),
        ({"document_id": "unknown"}, AnyOf(())),
        ({"document_id": {"ne": "unknown"}}, AllOf(())),
        ({"or": [{"year": 1}, {"mixed": 2}]}, AnyOf((number("year", "eq", 1), number("mixed", "eq", 2)))),
    ],
)
def test_a_filter_means_what_it_says(raw: dict[str, Any], wanted: object) -> None:
    assert parse(raw, KNOWN) == wanted


@pytest.mark.parametrize(
    ("raw", "field", "hint"),
    [
        ({"colour": 1}, "filters.colour", "known key"),
        ({"year": {"near": 1}}, "filters.year.near", "eq, ne, gt"),
        ({"year": "2020"}, "filters.year", "a number"),
        ({"tags": {"gt": "x"}}, "filters.tags", "list of texts"),
        ({"draft": {"gt": True}}, "filters.draft", "eq or ne"),
        ({"year": {"in": []}}, "filters.year", "list of values"),
        ({"year": {"in": [1, "x"]}}, "filters.year", "one type"),
        ({"year": None}, "filters.year", "texts, finite numbers"),
        ({"year": math.nan}, "filters.year", "finite"),
        ({"year": {}}, "filters.year", "use one of"),
        ({"or": {}}, "filters.or", "[{"),
        ({"and": []}, "filters.and", "[{"),
        ({"and": [3]}, "filters.and.0", "gte"),
        ({"document_id": {"gt": "d"}}, "filters.document_id", "eq, ne, in or nin"),
        ({"and": [{"or": [{"and": [{"or": [{"and": [{}]}]}]}]}]}, "filters.and.0.or.0.and.0.or.0.and.0", "flatter"),
        ({"or": [{"year": n} for n in range(101)]}, "filters.or.100.year", "`in`"),
    ],
)
def test_a_wrong_filter_is_refused_with_its_place_and_a_fix(raw: dict[str, Any], field: str, hint: str) -> None:
    with pytest.raises(FilterRefused) as refused:
        parse(raw, KNOWN)

    assert refused.value.field == field
    assert hint in refused.value.fix


def test_five_levels_are_not_too_deep() -> None:
    parse({"and": [{"or": [{"and": [{"or": [{"year": 1}]}]}]}]}, KNOWN)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["year", "team", "and", "or", "eq", "in", "nope", "document_id"]), inner, max_size=3
        )
    ),
    max_leaves=20,
)


@given(_JSON)
def test_any_json_is_either_a_filter_or_refused_in_words(raw: object) -> None:
    refused = None
    try:
        parse(raw, KNOWN)
    except FilterRefused as error:
        refused = error

    assert refused is None or (refused.field.startswith("filters") and refused.fix)
