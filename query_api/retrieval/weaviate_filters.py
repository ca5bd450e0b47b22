"""Our filters and criteria in Weaviate's words. Before it: `filters.py`, `ports.py`. After it: `weaviate_index.py`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, assert_never

from weaviate.classes.query import Filter as Where

from query_api.retrieval.filters import AllOf, AnyOf, Comparison, Filter
from query_api.retrieval.ports import Criteria
from query_api.retrieval.rights import Rights

_NOTHING = "\x00"
"""No property holds it: what a filter that is never true asks for."""


def where(criteria: Criteria) -> Any:
    """The filter of a search over chunks: not retired, within the rights, and what the caller wants."""
    parts = [Where.by_property("retired").equal(False), *rights_where(criteria.rights)]
    if criteria.documents is not None:
        parts.append(_any("document", criteria.documents))
    if criteria.filter is not None:
        parts.extend(_translated(criteria.filter))
    return Where.all_of(parts)


def rights_where(rights: Rights) -> list[Any]:
    """The parts of a filter over chunks that keep them within the rights."""
    parts = [_any("knowledge_base", sorted(rights.bases))]
    if rights.readers is not None:
        ways = [_any("access", sorted(rights.readers))]
        if open_bases := sorted(name for name, for_everyone in rights.bases.items() if for_everyone):
            ways.append(Where.all_of([Where.by_property("public").equal(True), _any("knowledge_base", open_bases)]))
        parts.append(Where.any_of(ways))
    return parts


def present(name: str, data_type: str) -> Any:
    """The filter that any value of this property passes: null state is not indexed."""
    named: Any = Where.by_property(name)
    match data_type:
        case "number":
            return named.greater_or_equal(-sys.float_info.max)
        case "boolean":
            return Where.any_of([named.equal(True), named.equal(False)])
        case _:
            return named.like("*")


def _any(name: str, values: Sequence[Any]) -> Any:
    return Where.by_property(name).contains_any(list(values) or [_NOTHING])


def _translated(node: Filter) -> list[Any]:
    """The node as parts that must all hold; empty: always true."""
    match node:
        case AllOf(parts):
            return [item for part in parts for item in _translated(part)]
        case AnyOf(parts):
            ways = [_translated(part) for part in parts]
            if any(not way for way in ways):
                return []
            return [Where.any_of([Where.all_of(way) for way in ways])] if ways else [_any("document", ())]
        case Comparison():
            return [_test(node)]
    assert_never(node)


def _test(test: Comparison) -> Any:
    named: Any = Where.by_property(test.property)
    value = test.value
    match test.operator:
        case "eq":
            return named.equal(value)
        case "ne":
            return named.not_equal(value)
        case "gt":
            return named.greater_than(value)
        case "gte":
            return named.greater_or_equal(value)
        case "lt":
            return named.less_than(value)
        case "lte":
            return named.less_or_equal(value)
        case "in":
            return named.contains_any(list(value) if isinstance(value, tuple) else [value])
        case "nin":
            return named.contains_none(list(value) if isinstance(value, tuple) else [value])
    assert_never(test.operator)
