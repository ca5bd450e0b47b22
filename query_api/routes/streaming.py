"""An answer as events: what was found, the text as it is written, and last all that the JSON answer holds.

Before it: `service.py`, which gives the parts. After it: `runtime/web/event_stream.py`, which sends them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from query_api.answering.answers import Answer
from query_api.service import Answered
from runtime.web.event_stream import Event, dumped


async def told(
    hits: Sequence[Mapping[str, Any]],
    parts: AsyncGenerator[str | Answered, None],
    whole: Callable[[Answer, float], Mapping[str, Any]],
) -> AsyncGenerator[Event, None]:
    """`hits` once, `delta` for each stretch of the text, `done` at the end. Raises what the parts raise."""
    async with aclosing(parts):
        yield Event("hits", dumped({"hits": hits}))
        async for part in parts:
            if isinstance(part, str):
                yield Event("delta", dumped({"text": part}))
            else:
                yield Event("done", dumped(whole(part.answer, part.took_s)), last=True)
