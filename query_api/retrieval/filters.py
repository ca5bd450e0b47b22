"""A caller's filters, checked against what the index can filter on: JSON in, a small closed tree out. Pure.

`{key: value}` means equal, `{key: {op: value}}` compares, several keys must all hold, `and` and `or` take lists.
`ne` and `nin` also hold for documents without the key. Before it: `models.py`. After it: `weaviate_filters.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Operator = Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
Value = str | float | bool
DEEPEST = 5
MOST_TESTS = 100
MOST_VALUES = 1000

_OPERATORS: tuple[str, ...] = get_args(Operator)
_NEGATIVE = ("ne", "nin")
_ORDER = ("gt", "gte", "lt", "lte")
_SPELLED = {"text": "text", "number": "a number", "boolean": "true or false", "text[]": "a list of texts"}


@dataclass(frozen=True)
class Comparison:
    """One comparison with a property of chunk objects. value is a tuple for `in` and `nin`, which is never empty."""

    property: str
    data_type: str
    operator: Operator
    value: Value | tuple[Value, ...]


@dataclass(frozen=True)
class AllOf:
    """Every part holds. No part: always true."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class AnyOf:
    """At least one part holds. No part: never true."""

    parts: tuple[Filter, ...]


Filter = Comparison | AllOf | AnyOf


class FilterRefused(ValueError):
    """The filters cannot be used: where (dotted path), what is wrong, what to do. unknown: it names no known key."""

    def __init__(self, field: str, message: str, fix: str, *, unknown: bool = False) -> None:
        super().__init__(f"{field} {message}")
        self.field, self.message, self.fix, self.unknown = field, message, fix, unknown


@dataclass(frozen=True)
class Known:
    """What can be filtered on. keys: metadata key -> data type -> property. documents: a document id -> its keys."""

    keys: Mapping[str, Mapping[str, str]]
    documents: Callable[[str], Sequence[str]]


def parse(raw: object, known: Known) -> Filter:
    """The filter tree. Raises FilterRefused."""
    return _Parser(known).node(raw, "filters", 1)


class _Parser:
    def __init__(self, known: Known) -> None:
        self._known = known
        self._tests = 0

    def node(self, raw: object, path: str, depth: int) -> Filter:
        if not isinstance(raw, dict):
            raise FilterRefused(path, "is not an object", 'write {"key": value} or {"key": {"gte": 3}}')
        if depth > DEEPEST:
            raise FilterRefused(path, f"is nested more than {DEEPEST} deep", "write it flatter")
        parts = [self._entry(str(key), value, f"{path}.{key}", depth) for key, value in raw.items()]
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _entry(self, key: str, value: object, path: str, depth: int) -> Filter:
        if key not in ("and", "or"):
            return self._comparisons(key, value, path)
        if not isinstance(value, list) or not value:
            raise FilterRefused(path, "is not a list of filters", f'write {{"{key}": [{{...}}, {{...}}]}}')
        parts = tuple(self.node(item, f"{path}.{number}", depth + 1) for number, item in enumerate(value))
        return AllOf(parts) if key == "and" else AnyOf(parts)

    def _comparisons(self, key: str, value: object, path: str) -> Filter:
        given = value if isinstance(value, dict) else {"eq": value}
        if not given:
            raise FilterRefused(path, "compares with nothing", f"use one of {', '.join(_OPERATORS)}")
        tests = [self._comparison(key, str(operator), operand, path) for operator, operand in given.items()]
        return tests[0] if len(tests) == 1 else AllOf(tuple(tests))

    def _comparison(self, key: str, operator: str, operand: object, path: str) -> Filter:
        if operator not in _OPERATORS:
            raise FilterRefused(f"{path}.{operator}", "is no operator", f"use one of {', '.join(_OPERATORS)}")
        self._tests += 1
        if self._tests > MOST_TESTS:
            raise FilterRefused(path, f"is one of more than {MOST_TESTS} comparisons", "use `in` with a list of values")
        values, data_type = _operand(operator, operand, path)
        if key == "document_id":
            return self._document(operator, data_type, values, path)
        properties = {"text": "source"} if key == "source" else self._known.keys.get(key)
        if properties is None:
            raise FilterRefused(path, "is not a key this index can filter on", "use a known key", unknown=True)
        wanted = ("text", "text[]") if data_type == "text" and operator not in _ORDER else (data_type,)
        usable = [(kind, properties[kind]) for kind in wanted if kind in properties]
        if not usable:
            kinds = " or ".join(_SPELLED[kind] for kind in sorted(properties))
            raise FilterRefused(path, f"is {kinds} in this index", f"compare it with {kinds}")
        value = values if operator in ("in", "nin") else values[0]
        tests = tuple(Comparison(name, kind, operator, value) for kind, name in usable)  # type: ignore[arg-type]  # checked
        if len(tests) == 1:
            return tests[0]
        return AllOf(tests) if operator in _NEGATIVE else AnyOf(tests)

    def _document(self, operator: str, data_type: str, values: tuple[Value, ...], path: str) -> Filter:
        if operator in _ORDER or data_type != "text":
            raise FilterRefused(path, "is an id", "compare it with eq, ne, in or nin, and with texts")
        documents = tuple(key for value in values for key in self._known.documents(str(value)))
        negative = operator in _NEGATIVE
        if not documents:
            return AllOf(()) if negative else AnyOf(())
        return Comparison("document", "text", "nin" if negative else "in", documents)


def _operand(operator: str, operand: object, path: str) -> tuple[tuple[Value, ...], str]:
    """The operand's values and their one data type."""
    if operator in ("in", "nin"):
        if not isinstance(operand, list) or not 0 < len(operand) <= MOST_VALUES:
            raise FilterRefused(path, f"does not give `{operator}` 1 to {MOST_VALUES} values", "give a list of values")
        items = operand
    else:
        items = [operand]
    kinds = {_kind(item) for item in items}
    if None in kinds or len(kinds) != 1:
        raise FilterRefused(
            path,
            f"compares `{operator}` with a value it cannot",
            "use texts, finite numbers, or true and false, one type at a time",
        )
    (kind,) = kinds
    if kind == "boolean" and operator not in ("eq", "ne"):
        raise FilterRefused(path, f"compares `{operator}` with true or false", "use eq or ne")
    return tuple(float(item) if kind == "number" else item for item in items), str(kind)


def _kind(value: object) -> str | None:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number" if abs(value) < 1e300 and math.isfinite(value) else None
    return "text" if isinstance(value, str) else None
