"""Reading server-sent events: whatever the pieces, and nothing that did not end."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from runtime.server_sent import EventReader, Received

STREAM = (
    ': a comment\n\nevent: delta\nid: 1\ndata: {"a":\ndata: 1}\n\nretry: 5\r\ndata:x\r\n\r\n\n'
    "event: lonely\n\ndata: line\u2028break\n\ndata: never ended\n"
).encode()
EVENTS = [
    Received("delta", b'{"a":\n1}'),
    Received("", b"x"),
    Received("", "line\u2028break".encode()),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_the_events_do_not_depend_on_the_pieces(cuts: list[int]) -> None:
    reader = EventReader()
    places = sorted({0, len(STREAM), *cuts})

    found = [event for at, to in pairwise(places) for event in reader.feed(STREAM[at:to])]

    assert found == EVENTS
