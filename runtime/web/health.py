"""`/health`, `/ready` and `/metrics`, open to all. Before it: named checks; after it: probes, and Prometheus.

Health answers 200 while the process lives and tells how its dependencies are; ready answers 503 and names what is
missing while a required check fails.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from runtime.web.problems import MEDIA_TYPE, Problem


class NotHealthy(Exception):
    """A check's finding: the text says what is wrong and what to do; it is shown to anyone, so it holds no secret.

    degraded: the service does without it, even if the check is a required one.
    """

    def __init__(self, text: str, *, degraded: bool = False) -> None:
        super().__init__(text)
        self.degraded = degraded


@dataclass(frozen=True)
class Check:
    """A named look at one dependency: returns a short text if all is well, raises NotHealthy if not.

    It must not block the event loop, and is given up after timeout_s. Not required: a failure is told, and the
    service stays ready ("degraded").
    """

    name: str
    look: Callable[[], Awaitable[str]]
    timeout_s: float = 2.0
    required: bool = True


@dataclass(frozen=True)
class _Found:
    check: Check
    ok: bool
    detail: str
    degraded: bool = False

    @property
    def missing(self) -> bool:
        """It is needed, and not there."""
        return not self.ok and self.check.required and not self.degraded

    def plain(self) -> dict[str, Any]:
        return {"ok": self.ok, "required": self.check.required, "detail": self.detail}


def router(checks: Sequence[Check], registry: CollectorRegistry, *, version: str) -> APIRouter:
    """The three routes. The uptime counts from this call. Raises ValueError for two checks of one name."""
    if len({check.name for check in checks}) != len(checks):
        raise ValueError("two checks have the same name")
    started = time.monotonic()
    routes = APIRouter(tags=["health"])

    @routes.get("/health", summary="Is the process alive, and how are its dependencies?")
    async def health() -> dict[str, Any]:
        found = await _look_at_all(checks)
        return {
            "status": _status(found),
            "version": version,
            "uptime_s": round(time.monotonic() - started, 1),
            "dependencies": {item.check.name: item.plain() for item in found},
        }

    @routes.get("/ready", summary="May requests come?", response_model=None)
    async def ready() -> Response | dict[str, Any]:
        found = await _look_at_all(checks)
        missing = [item for item in found if item.missing]
        if not missing:
            degraded = [item.check.name for item in found if not item.ok]
            return {"status": _status(found), "degraded": degraded}
        names = ", ".join(item.check.name for item in missing)
        problem = Problem("unavailable", f"Missing: {names}.", headers={"Retry-After": "2"})
        body = {
            **problem.document("/ready"),
            "missing": {item.check.name: item.detail for item in missing},
        }
        return JSONResponse(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)

    @routes.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes


def _status(found: Sequence[_Found]) -> str:
    if all(item.ok for item in found):
        return "ok"
    return "unavailable" if any(item.missing for item in found) else "degraded"


async def _look_at_all(checks: Sequence[Check]) -> list[_Found]:
    return list(await asyncio.gather(*(_look(check) for check in checks)))


async def _look(check: Check) -> _Found:
    try:
        detail = await asyncio.wait_for(check.look(), check.timeout_s)
    except NotHealthy as finding:
        return _Found(check, False, str(finding), finding.degraded)
    except TimeoutError:
        return _Found(check, False, f"no answer within {check.timeout_s:g} s")
    except Exception as error:  # noqa: BLE001  # a check that breaks is a finding, and must not break the page
        structlog.get_logger(__name__).warning("check_broke", check=check.name, error=type(error).__name__)
        return _Found(check, False, f"the check itself failed: {type(error).__name__}")
    return _Found(check, True, detail)
