"""Logs: one JSON object a line on stdout, with timestamp, level, event, logger and request_id. Called by main only.

Before it: `settings.log_level`. After it: whatever collects stdout. Texts, queries, keys and vectors are never logged.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

from runtime.tracebacks import traced

_NOISY = (
    "httpx2",
    "httpcore2",
    "httpx",
    "httpcore",
    "urllib3",
    "uvicorn.access",
    "weaviate-client",
    "aiokafka",
    "faust",
    "asyncio",
)
"""Libraries whose info lines say nothing that ours do not say."""


def _error(_: object, __: str, event: EventDict) -> EventDict:
    """An error as `tracebacks.py` tells it, in place of Python's own words, which quote what was worked on."""
    given = event.pop("exc_info", None)
    found = sys.exc_info() if given is True else given
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        event["exception"] = traced(error)
    return event


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's logs to stream (stdout) as JSON lines, from `level` (`info`) on."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _error,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Names come from callers: as escapes none can end a line or steer a terminal (C1, U+2028, bidi).
                structlog.processors.JSONRenderer(ensure_ascii=True, default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
