"""No body is read before it is known who sends it. Before it: uvicorn; after it: FastAPI, which reads bodies first.

Give it to a router as `route_class=KnownFirst`; its routes depend on `identity.principal` as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from runtime.web.identity import identify


class KnownFirst(APIRoute):
    """A route that asks who is calling before it touches the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As APIRoute's. Raises Problem 401, or 503 while callers are not known yet."""
        answer = super().get_route_handler()

        async def asked(request: Request) -> Response:
            await identify(request)
            return await answer(request)

        return asked
