"""Strings that no store and no wire can hold: a NUL, half of a surrogate pair. Refused at the edge of both APIs.

Before it: uvicorn, `requests.py`. After it: the routes, which may encode, log and store whatever string they get. JSON
can write such strings as escapes, and Python's parser lets them pass.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.web.problems import FieldError, Problem, RefusedBody

_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|[^u])")
_FLAW = re.compile("[\x00\ud800-\udfff]")
_NUL_FIX = "take the NUL characters out"
_HALF_FIX = "send whole characters: each surrogate with its other half"


class WellFormedStrings:
    """Wraps an app, within what bounds its bodies (`app.add_middleware` before that).

    A JSON body is looked at while the route reads it, and held until then; other bodies go by. Answers 422, naming the
    field; 400 where the bytes are not UTF-8.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        for place, flawed in (("path", "\x00" in scope["path"]), ("query", b"%00" in scope["query_string"])):
            if flawed:
                raise _refused(place, "holds a NUL character", _NUL_FIX)
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        if kind == "" or kind.endswith(("/json", "+json")):
            receive = _checking(receive)
        await self._app(scope, receive, send)


def flawed(body: bytes) -> bool:
    """True if a string of this JSON (UTF-8) holds a NUL or half of a surrogate pair. Never false for such a body."""
    if b"\x00" in body:
        return True
    if b"\\u" not in body:
        return False
    opened = -1  # where the first half of a pair ends
    for escape in _ESCAPE.finditer(body):
        code = int(escape[1], 16) if escape[1] else -1
        second = 0xDC00 <= code <= 0xDFFF
        if code == 0 or second != (opened == escape.start()):
            return True
        if opened not in (-1, escape.start()):
            return True
        opened = escape.end() if 0xD800 <= code <= 0xDBFF else -1
    return opened != -1


def _checking(receive: Receive) -> Receive:
    parts: list[bytes] = []
    whole = False
    decoder = codecs.getincrementaldecoder("utf-8")()

    async def checked() -> Message:
        nonlocal whole
        message = await receive()
        if whole or message["type"] != "http.request":
            return message
        part: bytes = message.get("body", b"")
        whole = not message.get("more_body", False)
        try:
            decoder.decode(part, final=whole)
        except UnicodeDecodeError as error:
            problem = Problem("malformed-request", "The body is not UTF-8: send JSON in UTF-8.")
            raise RefusedBody(problem) from error
        parts.append(part)
        if whole:
            body = b"".join(parts)
            parts.clear()
            if flawed(body):
                raise RefusedBody(_told(body))
        return message

    return checked


def _told(body: bytes) -> Problem:
    """Which field it is; the body itself where that cannot be said: no JSON, or a name that comes twice."""
    unsaid = ("body", "\x00" if b"\x00" in body or b"\\u0000" in body else "\ud800")
    try:
        field, text = next(_flaws(json.loads(body), ""), unsaid)
    except (ValueError, RecursionError):
        field, text = unsaid
    if "\x00" in text:
        return _refused(field, "holds a NUL character", _NUL_FIX)
    return _refused(field, "holds half of a surrogate pair", _HALF_FIX)


def _flaws(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str) and _FLAW.search(value):
        yield path or "body", value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _flaws(item, f"{path}.{number}" if path else str(number))
    elif isinstance(value, dict):
        for key, item in value.items():
            # The name itself may be what no answer can hold.
            named = _FLAW.sub(lambda found: f"\\u{ord(found[0]):04x}", key)
            below = f"{path}.{named}" if path else named
            if named != key:
                yield below, key
            yield from _flaws(item, below)


def _refused(field: str, message: str, fix: str) -> Problem:
    return Problem("validation-failed", f"{field} {message}: {fix}.", errors=[FieldError(field, message, fix)])
