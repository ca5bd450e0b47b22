"""Which field is wrong, why, and how to correct it: pydantic's findings in our words, without the caller's values.

Before it: FastAPI's validation. After it: `problems.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FieldError:
    """One field (dotted path), what is wrong with it, and what to do."""

    field: str
    message: str
    fix: str


def field_errors(findings: Sequence[Any]) -> list[FieldError]:
    """FastAPI's list of findings as field errors; `body`, `query`, `path`, `header` prefixes are left out."""
    return [FieldError(_name(finding), _message(finding), _fix(finding)) for finding in findings]


def _name(finding: Mapping[str, Any]) -> str:
    if finding["type"] == "json_invalid":
        return "body"
    location = [str(part) for part in finding["loc"]]
    if len(location) > 1 and location[0] in ("body", "query", "path", "header", "cookie"):
        location = location[1:]
    return ".".join(location)


def _message(finding: Mapping[str, Any]) -> str:
    match finding["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not a known field"
        case "json_invalid":
            return "is not valid JSON"
        case "string_too_long":
            return f"is longer than {finding['ctx']['max_length']} characters"
        case _:
            text = str(finding["msg"]).removeprefix("Value error, ")
            return text[:1].lower() + text[1:]


def _fix(finding: Mapping[str, Any]) -> str:
    context = finding.get("ctx", {})
    match finding["type"]:
        case "missing":
            return "add it"
        case "extra_forbidden":
            return "remove it, or check its spelling against /docs"
        case "json_invalid":
            return f"correct the JSON near character {finding['loc'][-1]}"
        case "string_too_long":
            return f"shorten it to at most {context['max_length']} characters"
        case "string_too_short" | "too_short":
            return f"give at least {context['min_length']}"
        case "too_long":
            return f"give at most {context['max_length']} items"
        case "literal_error" | "enum":
            return f"use one of {context['expected']}"
        case "greater_than_equal":
            return f"use {context['ge']} or more"
        case "less_than_equal":
            return f"use {context['le']} or less"
        case _:
            return "correct it as /docs describes"
