"""The OpenAPI document says what really comes: each error is a problem document, by whichever status.

Before it: FastAPI's own document, which knows no errors but its own 422. After it: `/openapi.json`, and who generates
clients or tests from it.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from runtime.web.problems import KINDS, MEDIA_TYPE

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "An error (RFC 9457). More members may tell programs more.",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "enum": [f"/problems/{kind}" for kind in KINDS]},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "retry_after": {
            "type": "integer",
            "minimum": 0,
            "description": "Seconds, as in the header `Retry-After`: documents in a stream or a batch have no headers.",
        },
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message", "fix"],
                "properties": {name: {"type": "string"} for name in ("field", "message", "fix")},
            },
        },
    },
}
_ERRORS: dict[str, Any] = {
    "description": "A problem document; `type` says which.",
    "headers": {
        "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds; with 409, 429 and 503 where known."}
    },
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def install(app: FastAPI) -> None:
    """Let the app's document tell of problems. Call it once, at any time before the document is asked for."""
    own = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_problems(own())
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # the way that FastAPI documents


def _with_problems(found: dict[str, Any]) -> dict[str, Any]:
    for path in found["paths"].values():
        for operation in path.values():
            responses = operation["responses"]
            responses.pop("422", None)
            responses["default"] = _ERRORS
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    return found
