"""Laws of chunking, for any text: bounds, wholeness, and that an edit stays where it is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.records import Block
from streams.core.chunking import Chunk, ChunkingParameters, chunk
from streams.core.structure import blocks_of
from tests.support.tiling import assert_tiles

SMALL = ChunkingParameters(most=400)
LONGEST = SMALL.whole("paragraph")

anything = st.one_of(
    st.text(max_size=900),
    st.lists(st.text("abcdefgh ijkl.\n", min_size=1, max_size=60), max_size=40).map("\n\n".join),
    st.lists(
        st.sampled_from(
            [
                "# One",
                "## Two",
                "text here. And more.",
                "so:",
                "- item",
                "| a | b |",
                "```\ncode\n\nx\n```",
                "",
                "    x",
            ]
        ),
        max_size=60,
    ).map("\n".join),
    st.text("x", min_size=200, max_size=2000),
    st.text("字句。かな", max_size=900),
    st.text("a \t\n\r\u3000", max_size=900),
    st.text(st.characters(categories=["Cs", "Lu", "Zs"]), max_size=600),
)


def _sentence(size: int, seed: int) -> str:
    words = ("river", "gauge", "mill", "of", "level", "a", "reads", "the", "morning", "under")
    text = f"{seed:x} "
    while len(text) < size:
        text += words[(seed := seed * 1103515245 + 12345 & 0x7FFFFFFF) >> 8 & 7] + " "
    return text[: max(size, 2)].strip() + "."


# Sizes on both sides of every cap, so that each level is met at its edge.
_edges = sorted({max(cap + off, 3) for cap in SMALL.caps for off in (-3, -1, 0)} - set(range(LONGEST, 9999)))
paragraph = st.one_of(
    st.builds(_sentence, st.integers(2, LONGEST - 2), st.integers(0, 2**30)),
    st.builds(_sentence, st.sampled_from([edge for edge in _edges if edge <= LONGEST - 2]), st.integers(0, 2**30)),
    st.sampled_from(["Yes.", "No.", "For example:", "As follows:", "Note", "字。"]),
)
heading = st.builds(lambda level, n: "#" * level + f" T{n}", st.integers(1, 6), st.integers(0, 99))
code = st.builds(lambda n: "```\n" + "x = 1\n" * n + "```", st.integers(1, 12))
table = st.builds(lambda n: "\n".join(["| a | b |"] * n), st.integers(1, 10))
items = st.builds(lambda n, m: "\n".join(f"- p{m + i}" for i in range(n)), st.integers(1, 4), st.integers(0, 99))
block = st.one_of(paragraph, paragraph, heading, code, table, items)
documents = st.lists(block, max_size=14)


def _pieces(parts: Sequence[str], *, whole: ChunkingParameters = SMALL) -> list[str]:
    text = "\n\n".join(parts)
    return [text[c.start : c.end] for c in chunk(text, content_type="text/markdown", parameters=whole)]


def _new(before: Sequence[str], after: Sequence[str]) -> int:
    """Chunks, counted as often as they occur, that were not there before."""
    return (Counter(after) - Counter(before)).total()


def _boundaries(parts: Sequence[str]) -> list[bool]:
    """For each gap between two blocks, whether a chunk ends there."""
    text = "\n\n".join(parts)
    starts = {c.start for c in chunk(text, content_type="text/markdown", parameters=SMALL)}
    found, at = [], 0
    for part in parts[:-1]:
        at += len(part) + 2
        found.append(at in starts)
    return found


@settings(max_examples=200, deadline=None)
@given(anything, st.sampled_from(["text/plain", "text/markdown"]), st.sampled_from([160, 400, 1700]))
@example("x" * 5000, "text/plain", 400)
@example("| a | b |\n" * 900, "text/markdown", 400)
@example("a." + " " * 700 + "b. " * 300, "text/plain", 160)
@example("so:\n\n" + " " * 300 + "b c. " * 100, "text/plain", 160)
def test_chunks_tile_the_text_within_bounds(text: str, content_type: str, most: int) -> None:
    assert_tiles(text, chunk(text, content_type=content_type, parameters=ChunkingParameters(most=most)), most)


@settings(max_examples=200, deadline=None)
@given(anything, st.sampled_from(["text/plain", "text/markdown"]))
def test_the_same_text_gives_the_same_chunks(text: str, content_type: str) -> None:
    """Whatever was chunked before."""
    first = chunk(text, content_type=content_type, parameters=SMALL)
    chunk("Something else. " * 50)

    assert chunk(text, content_type=content_type, parameters=SMALL) == first


@settings(max_examples=100, deadline=None)
@given(documents, paragraph)
def test_a_paragraph_added_anywhere_makes_two_new_chunks_at_most(parts: list[str], added: str) -> None:
    """And moves no other boundary; taking it out again is the same law backwards."""
    before, gaps = _pieces(parts), _boundaries(parts)
    for at in range(len(parts) + 1):
        with_it = [*parts[:at], added, *parts[at:]]
        if 0 < at < len(parts) and parts[at - 1].startswith("- ") and parts[at].startswith("- "):
            continue  # two lists, side by side, are one list: what is put between them is the next test's
        after, now = _pieces(with_it), _boundaries(with_it)

        assert 1 <= _new(before, after) + (added in before) <= 3
        assert _new(before, after) <= 2
        assert now[: max(at - 1, 0)] == gaps[: max(at - 1, 0)]
        assert now[at + 1 :] == gaps[at:]


@settings(max_examples=100, deadline=None)
@given(documents, st.integers(LONGEST + 1, LONGEST * 5), st.integers(0, 999))
def test_a_paragraph_too_long_for_a_chunk_makes_one_new_chunk_more_than_it_has_pieces_at_most(
    parts: list[str], size: int, seed: int
) -> None:
    """Wherever it is added; blocks below and above stay as they are."""
    parts = [part.replace("- ", "p ") for part in parts]
    added = " ".join(_sentence(60, seed + number) for number in range(size // 60))
    before, alone = _pieces(parts), _pieces([added])
    for at in range(len(parts) + 1):
        assert _new(before, _pieces([*parts[:at], added, *parts[at:]])) <= len(alone) + 1


@settings(max_examples=100, deadline=None)
@given(documents, items, items, paragraph, documents)
def test_a_paragraph_put_between_the_items_of_a_list_that_fits_makes_two_new_chunks_at_most(
    above: list[str], first: str, second: str, added: str, below: list[str]
) -> None:
    """Both halves stand where the whole stood."""
    above = [*above, "Above."]
    below = ["Below.", *below]
    before = _pieces([*above, f"{first}\n{second}", *below])

    assert _new(before, _pieces([*above, first, added, second, *below])) <= 2


@settings(max_examples=100, deadline=None)
@given(documents.filter(bool), paragraph, st.data())
def test_a_block_that_is_replaced_or_removed_makes_two_new_chunks_at_most(
    parts: list[str], other: str, data: st.DataObject
) -> None:
    """Lists set aside, which may grow together over what is taken out."""
    parts = [part.replace("- ", "p ") for part in parts]
    at = data.draw(st.integers(0, len(parts) - 1))
    before = _pieces(parts)

    assert _new(before, _pieces([*parts[:at], other, *parts[at + 1 :]])) <= 2
    assert _new(before, _pieces([*parts[:at], *parts[at + 1 :]])) <= 1


@settings(max_examples=100, deadline=None)
@given(documents.filter(bool), st.data())
def test_an_edit_that_keeps_a_paragraphs_level_changes_its_own_chunk_only(
    parts: list[str], data: st.DataObject
) -> None:
    """The level is chosen by the opening, among those that admit the size; so a word further on costs one chunk."""
    at = data.draw(st.integers(0, len(parts)))
    size = data.draw(st.integers(30, LONGEST - 5))
    old = _sentence(size, data.draw(st.integers(0, 999)))
    edited = f"{old[:-4]}zz{old[-2:]}"
    before = _pieces([*parts[:at], old, *parts[at:]])
    after = _pieces([*parts[:at], edited, *parts[at:]])

    assert len(before) == len(after)
    assert [was == now for was, now in zip(before, after, strict=True)].count(False) == 1


@settings(max_examples=200, deadline=None)
@given(documents.filter(bool), documents.filter(bool))
def test_texts_put_together_keep_all_chunks_but_those_that_meet(left: list[str], right: list[str]) -> None:
    """A chunk depends on nothing further away than its neighbours."""
    left, right = [*left, "The end of it."], ["The start of it.", *right]
    both = _pieces([*left, *right])
    one, two = _pieces(left), _pieces(right)

    assert both[: len(one) - 1] == one[:-1]
    assert both[len(both) - len(two) + 1 :] == two[1:]


@settings(max_examples=100, deadline=None)
@given(documents)
def test_what_fits_stays_whole(parts: list[str]) -> None:
    """Headings, paragraphs, code, tables; and a list with its items."""
    text = "\n\n".join(parts)
    inside = {at for c in chunk(text, content_type="text/markdown", parameters=SMALL) for at in (c.start, c.end)}
    at = 0
    for number, part in enumerate(parts):
        beside = any(parts[i].startswith("- ") for i in (number - 1, number + 1) if 0 <= i < len(parts))
        if len(part.encode()) <= SMALL.whole("list" if part.startswith("- ") else "paragraph") and not (
            part.startswith("- ") and beside
        ):
            assert not any(at < boundary < at + len(part) for boundary in inside)
        at += len(part) + 2


@settings(max_examples=200, deadline=None)
@given(anything, st.sampled_from(["text/plain", "text/markdown"]))
def test_blocks_are_ordered_and_cover_the_text(text: str, content_type: str) -> None:
    """Blocks do not overlap, and only white space lies between them."""
    at = 0
    for one in blocks_of(text, content_type):
        assert at <= one.start <= one.end
        assert not text[at : one.start].strip()
        at = one.end
    assert not text[at:].strip()


def test_an_edit_inside_a_paragraph_too_long_for_a_chunk_changes_few_pieces() -> None:
    """Not a law there: over all its sentences, hardly more than one on average."""
    sentences = [f"Sentence {i} tells of the {'very ' * (i % 5)}old mill and its gauge." for i in range(200)]
    before = _pieces([" ".join(sentences)], whole=ChunkingParameters())
    news = []
    for at in range(len(sentences)):
        edited = [*sentences[:at], "Another one stands here.", *sentences[at + 1 :]]
        news.append(_new(before, _pieces([" ".join(edited)], whole=ChunkingParameters())))

    assert len(before) > 15
    assert min(news) >= 1
    assert sum(news) / len(news) < 1.5


def test_a_heading_is_never_parted_from_the_paragraph_below_it() -> None:
    """Nor from the heading under it."""
    assert _pieces(["# Rivers", "## Gauges", "They are read every morning.", "# Birds", "Herons."]) == [
        "# Rivers\n\n## Gauges\n\nThey are read every morning.",
        "# Birds\n\nHerons.",
    ]


def test_headings_and_pages_travel_with_a_chunk() -> None:
    """The path of headings above a chunk, those it begins with included."""
    text = "# Rivers\n\n" + "Water flows. " * 9 + "\n\n## Birds\n\n" + "Herons wait for fish. " * 6
    paged = [Block(b.kind, b.start, b.end, b.level, page) for page, b in enumerate(blocks_of(text, "text/markdown"))]

    chunks = chunk(text, blocks=paged, parameters=SMALL)

    assert chunks[0] == Chunk(0, text.index("\n\n## Birds") - 1, ("Rivers",), 0)
    assert (chunks[-1].heading, chunks[-1].page) == (("Rivers", "Birds"), 2)


@pytest.mark.parametrize(
    "text",
    ["word " * 60_000, "x" * 1_000_000, "a\n" * 100_000, "字" * 300_000, "Some words. " * 80_000, "| " * 100_000],
    ids=["equal words", "blob", "short lines", "no spaces", "sentences", "one row"],
)
def test_a_long_text_without_structure_takes_seconds_and_fits(text: str) -> None:
    """One line, one table row, one blob; processor time, for others may be at work."""
    began = time.process_time()
    chunks = chunk(text, content_type="text/markdown")

    assert time.process_time() - began < 10
    most = ChunkingParameters().whole("paragraph")
    assert len(text.encode()) / most - 1 <= len(chunks) <= len(text.encode()) / most * 6
    assert all(len(text[c.start : c.end].encode()) <= most for c in chunks)
