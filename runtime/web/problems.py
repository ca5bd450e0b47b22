"""Errors as RFC 9457 problem documents: what is wrong, where, and what to do. Before it: routes; after it: the caller.

Raise `Problem("not-found", "...")` anywhere in a route. `install` makes every error of an app such a document, and
serves a page for each type, so that `type` can be followed.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from runtime.web.problem_fields import FieldError, field_errors

__all__ = [
    "KINDS",
    "MEDIA_TYPE",
    "FieldError",
    "Kind",
    "Problem",
    "RefusedBody",
    "install",
    "response_of",
    "unexpected",
]

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """One type of problem: its HTTP status, a title that never varies, and what a caller does about it."""

    status: int
    title: str
    remedy: str


KINDS: Mapping[str, Kind] = {
    "malformed-request": Kind(400, "The request cannot be read", "Send what /docs describes."),
    "idempotency-key-missing": Kind(400, "An Idempotency-Key is required", "Send the header `Idempotency-Key`."),
    "unauthenticated": Kind(
        401,
        "No valid key or token was given",
        "Send `Authorization: Bearer <key or token>` or `X-API-Key: <key>`; see `thalweg access`.",
    ),
    "login-refused": Kind(401, "The login did not work", "Check name, password and, if you have an app for it, code."),
    "mfa-required": Kind(403, "An admin needs a second factor", "Log in with one, then send the new token."),
    "key-not-found": Kind(404, "No such API key", "Check the id: `GET /v1/api-keys` lists those you may see."),
    "forbidden": Kind(403, "The key does not allow this", "Ask an administrator for the scope or role that is named."),
    "not-found": Kind(404, "There is nothing here", "Check the path against /docs."),
    "document-not-found": Kind(404, "No such document", "Check the id and the knowledge base."),
    "upload-not-found": Kind(404, "No such upload", "Check the id; states are kept for a limited time."),
    "knowledge-base-not-found": Kind(404, "No such knowledge base", "Use one that the key may read."),
    "method-not-allowed": Kind(405, "The method is not allowed here", "Use one that the header Allow names."),
    "not-acceptable": Kind(406, "The answer has no such form", "Accept application/json."),
    "timeout": Kind(408, "The request came too slowly", "Send it again."),
    "conflict": Kind(409, "The state does not allow this", "Look at the state, then try again."),
    "idempotency-key-in-use": Kind(
        409, "A request with this Idempotency-Key is still at work", "Wait, then send the same request again."
    ),
    "not-yet-indexed": Kind(
        409, "The index has not come that far", "Try again after `Retry-After` seconds, or raise `wait_ms`."
    ),
    "write-failed": Kind(
        409, "A write that was to be searched was not indexed", "Correct what the reason names, and send it again."
    ),
    "length-required": Kind(411, "The length of the body must be given", "Send `Content-Length`."),
    "too-large": Kind(413, "The body is too large", "Send less at once."),
    "unsupported-media-type": Kind(415, "The content type is not supported", "Send one that the detail names."),
    "validation-failed": Kind(422, "Fields are not valid", "Correct the fields in `errors`; each names its fix."),
    "unreadable-file": Kind(422, "The file cannot be used", "Send another file; the detail says what is wrong."),
    "idempotency-key-reused": Kind(
        422, "The Idempotency-Key belongs to another request", "Use a fresh key for each different request."
    ),
    "too-many-requests": Kind(429, "Too many requests", "Wait for `Retry-After` seconds."),
    "internal": Kind(500, "Something went wrong on our side", "Try again; report the request id if it stays."),
    "unavailable": Kind(503, "A part that is needed is away", "Try again after `Retry-After` seconds."),
    "no-index": Kind(
        503, "There is no index yet", "Start the index stage (`thalweg worker index`); it makes the collections."
    ),
    "model-mismatch": Kind(
        503, "The embedding model is not the index's", "Configure the model that the index was built with."
    ),
}
"""Every problem type there is. `type` is `/problems/<key>`."""

_BY_STATUS = {
    400: "malformed-request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    408: "timeout",
    409: "conflict",
    411: "length-required",
    413: "too-large",
    415: "unsupported-media-type",
    422: "validation-failed",
    429: "too-many-requests",
    503: "unavailable",
}


class Problem(Exception):
    """An error a caller can act on. kind is a key of KINDS; headers go out with the answer.

    extra adds members to the document (RFC 9457, section 3.2), for programs. Raises KeyError for an unknown kind.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.type = f"/problems/{kind}"
        self.title = KINDS[kind].title
        self.status = KINDS[kind].status
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def document(self, instance: str) -> dict[str, Any]:
        """The problem document; instance names this occurrence (the request id).

        `retry_after` is the header's seconds, for documents that come without headers: in a stream, in a batch.
        """
        body: dict[str, Any] = {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
        }
        if self.errors:
            body["errors"] = [asdict(error) for error in self.errors]
        if (again := self.headers.get("Retry-After")) is not None:
            body["retry_after"] = int(again)
        return {**self.extra, **body}


class RefusedBody(HTTPException):
    """A Problem that is found while a route reads its body: FastAPI lets no other kind of error through there."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.detail)
        self.problem = problem


def response_of(problem: Problem, request_id: str) -> Response:
    """The HTTP answer for a problem."""
    body = problem.document(f"urn:request:{request_id}")
    return JSONResponse(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def unexpected(error: Exception) -> Problem:
    """The problem for an error nobody expected: it is logged here, and the caller learns nothing of its insides."""
    structlog.get_logger(__name__).error("unexpected_error", error=type(error).__name__, exc_info=error)
    return Problem("internal", "An unexpected error; it was logged under this request id.")


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document, and serve `/problems/<type>`."""

    async def ours(request: Request, error: Exception) -> Response:
        return _answer(request, error if isinstance(error, Problem) else unexpected(error))

    async def invalid(request: Request, error: Exception) -> Response:
        return _answer(request, _of_validation(error) if isinstance(error, RequestValidationError) else _odd(error))

    async def http(request: Request, error: Exception) -> Response:
        return _answer(request, _of_http(request, error) if isinstance(error, HTTPException) else _odd(error))

    app.add_exception_handler(Problem, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_api_route("/problems/{kind}", _page, include_in_schema=False)


def _odd(error: Exception) -> Problem:
    return unexpected(error)


def _answer(request: Request, problem: Problem) -> Response:
    return response_of(problem, getattr(request.state, "request_id", "unknown"))


def _of_validation(error: RequestValidationError) -> Problem:
    errors = field_errors(error.errors())
    if len(errors) == 1 and errors[0].field == "body":
        return Problem("malformed-request", f"The body {errors[0].message}: {errors[0].fix}.", errors=errors)
    named = ", ".join(sorted({item.field for item in errors}))
    return Problem("validation-failed", f"Not valid: {named}.", errors=errors)


def _of_http(request: Request, error: HTTPException) -> Problem:
    if isinstance(error, RefusedBody):
        return error.problem
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:
        kind = "malformed-request" if error.status_code < 500 else "internal"
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"Nothing is at {request.url.path}."
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        detail = f"{request.method} is not allowed at {request.url.path}: use {allowed}."
    return Problem(kind, detail, headers=error.headers)


async def _page(kind: str) -> Response:
    known = KINDS.get(kind)
    if known is None:
        raise Problem("not-found", "There is no problem type of this name.")
    title, remedy = html.escape(known.title), html.escape(known.remedy)
    return HTMLResponse(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<h1>{title}</h1><p>HTTP status {known.status}, type <code>/problems/{kind}</code>.</p><p>{remedy}</p></html>"
    )
