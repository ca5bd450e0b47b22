"""Server-sent events as they arrive: bytes in, events out. Pure.

Before it: a connection. After it: whoever listens, to a model (`query_api/answering`) or to our own API (the command).
Format: https://html.spec.whatwg.org/multipage/server-sent-events.html, lines ending in LF or CRLF.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Received:
    """One event. event is empty where it was not named; data is what its data lines hold, joined by line feeds."""

    event: str
    data: bytes


class EventReader:
    """Puts the pieces of one connection together.

    Lines end at line feeds alone: JSON may hold U+2028 and others that Python takes for line breaks as well. An event
    that was not ended by an empty line never comes out, as the format wants it.
    """

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._event = ""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[Received]:
        """The events that are complete now; comments are left out."""
        if b"\n" not in piece:
            self._held.append(piece)
            return []
        first, *lines = piece.split(b"\n")
        lines = [b"".join([*self._held, first]), *lines]
        self._held = [lines.pop()]
        found = []
        for line in (line.removesuffix(b"\r") for line in lines):
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            elif name == b"event":
                self._event = value.removeprefix(b" ").decode(errors="replace")
            elif not line:
                if self._data:
                    found.append(Received(self._event, b"\n".join(self._data)))
                self._event, self._data = "", []
        return found
