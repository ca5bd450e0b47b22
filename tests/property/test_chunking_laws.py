"""Laws of chunking, for any text."""

from __future__ import annotations

import statistics

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.chunking import ChunkingParameters, chunk
from streams.core.structure import blocks_of

PARAMETERS = ChunkingParameters(most=120, least=30)
words = st.text("abcdefgh ijkl.\n", min_size=1, max_size=60)
paragraphs = st.lists(st.text("abcdefghij klmno.,", min_size=5, max_size=90).filter(str.strip), min_size=4, max_size=30)
anything = st.one_of(
    st.text(max_size=600),
    st.lists(words, max_size=40).map("\n\n".join),
    st.lists(
        st.sampled_from(["# One", "## Two", "text here. And more.", "- item", "| a | b |", "```\ncode\n\nx\n```"])
    ).map("\n".join),
    st.text("x", min_size=200, max_size=2000),
)


@settings(max_examples=400, deadline=None)
@given(anything, st.sampled_from(["text/plain", "text/markdown"]))
def test_chunks_tile_the_text(text: str, content_type: str) -> None:
    """In order, without overlap, within bounds; what lies outside every chunk is white space."""
    chunks = chunk(text, content_type=content_type, parameters=PARAMETERS)

    at = 0
    for piece in chunks:
        assert at <= piece.start < piece.end <= len(text)
        assert not text[at : piece.start].strip()
        body = text[piece.start : piece.end]
        assert body == body.strip()
        assert len(body.encode("utf-8", "surrogatepass")) <= PARAMETERS.most
        at = piece.end
    assert not text[at:].strip()


@settings(max_examples=200, deadline=None)
@given(anything)
def test_chunking_is_deterministic(text: str) -> None:
    """The same text gives the same chunks."""
    assert chunk(text, parameters=PARAMETERS) == chunk(text, parameters=PARAMETERS)


@settings(max_examples=200, deadline=None)
@given(paragraphs, st.data())
def test_an_added_paragraph_changes_few_chunks(texts: list[str], data: st.DataObject) -> None:
    """Wherever it is added, at most a handful of chunks are new, and the others are untouched."""
    texts = [f"{i} {text.strip()}" for i, text in enumerate(texts)]
    at = data.draw(st.integers(0, len(texts)))
    added = [*texts[:at], "A paragraph that was never here before.", *texts[at:]]

    def pieces(parts: list[str]) -> set[str]:
        text = "\n\n".join(parts)
        return {text[c.start : c.end] for c in chunk(text, parameters=PARAMETERS)}

    assert len(pieces(added) - pieces(texts)) <= 5


def test_an_added_paragraph_makes_hardly_more_than_one_new_chunk_on_average() -> None:
    """Over all places of a long text."""
    texts = [f"Paragraph {i} says {'something ' * (i % 7 + 2)}and ends." for i in range(120)]
    before = "\n\n".join(texts)
    known = {before[c.start : c.end] for c in chunk(before, parameters=PARAMETERS)}
    news = []
    for at in range(len(texts) + 1):
        after = "\n\n".join([*texts[:at], "A paragraph that was never here before.", *texts[at:]])
        news.append(len({after[c.start : c.end] for c in chunk(after, parameters=PARAMETERS)} - known))

    assert statistics.mean(news) < 1.6
    assert min(news) >= 1


@settings(max_examples=200, deadline=None)
@given(anything)
def test_markdown_blocks_are_ordered_and_cover_the_text(text: str) -> None:
    """Blocks do not overlap, and only white space lies between them."""
    at = 0
    for block in blocks_of(text, "text/markdown"):
        assert at <= block.start <= block.end
        assert not text[at : block.start].strip()
        at = block.end
    assert not text[at:].strip()


def test_headings_and_pages_travel_with_a_chunk() -> None:
    """The path of headings above a chunk, those it begins with included."""
    text = "# Rivers\n\n" + "Water flows. " * 9 + "\n\n## Birds\n\n" + "Herons wait for fish. " * 6

    chunks = chunk(text, content_type="text/markdown", parameters=PARAMETERS)

    assert chunks[0].heading == ("Rivers",)
    assert chunks[-1].heading == ("Rivers", "Birds")
    assert next(c for c in chunks if text[c.start : c.end].startswith("## Birds")).heading == ("Rivers", "Birds")


def test_a_million_equal_words_do_not_take_for_ever() -> None:
    """Equal atoms have equal priorities: the tree stays shallow all the same."""
    chunks = chunk("word " * 200_000)

    assert len(chunks) > 1000
