"""An error as a log, a receipt or a dead letter's header may tell it: what broke and where, but no text of a document.

The message of an error of ours says nothing of what was worked on. That of any other error may quote it (`could not
convert string to float: '...'`), and is left out. Before this: whoever caught an error. After this: `logs.py`.
"""

from __future__ import annotations

import traceback

_OURS = frozenset({"schemas", "runtime", "connectors", "streams", "query_api", "deploy", "thalweg"})
_OF_CONNECTIONS = frozenset({"confluent_kafka", "cimpl", "aiokafka", "faust", "mode", "httpcore", "httpx"})
"""Libraries whose errors tell of hosts and topics: nobody could mend a connection by their type alone."""


def named(error: BaseException) -> str:
    """The error's type, and its message where that may be told."""
    kind = type(error)
    told = kind.__module__.partition(".")[0] in _OURS | _OF_CONNECTIONS or isinstance(error, OSError)
    text = str(error) if told else ""
    return f"{kind.__name__}: {text}" if text else kind.__name__


def frames(error: BaseException) -> str:
    """Files, lines and functions the error went through, the outermost first; no source line, no value."""
    return "\n".join(
        f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
    )


def traced(error: BaseException) -> str:
    """The error and what it came from, the first cause first, each with its frames."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\n".join(part for link in reversed(chain) for part in (frames(link), named(link)) if part)
