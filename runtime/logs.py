"""Logs: one JSON object a line on stdout, with timestamp, level, event, logger and request_id. Called by main only.

Before it: `settings.log_level`. After it: whatever collects stdout. Texts, queries, keys and vectors are never logged.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import Processor

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


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's logs to stream (stdout) as JSON lines, from `level` (`info`) on."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
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
                structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
