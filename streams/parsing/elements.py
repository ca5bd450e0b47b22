"""unstructured's elements as blocks of ours, whatever partitioner they come from.

Before it: a partitioner, or pdf.py. After it: `result.assemble`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from streams.parsing.result import BlockKind, Piece, Refused
from streams.parsing.tables import html_table_text

NO_LANGUAGES = [""]
"""unstructured's way to say: do not guess the language."""
SENTENCE_END = (".", "!", "?", ":", ";", ",", "…", "。")
"""What a heading does not end with, where only its words can tell."""


def pieces(elements: Iterable[Any], *, guessed_headings: bool = False, deepest_heading: int = 5) -> Iterator[Piece]:
    """Elements as blocks.

    Args:
        elements: unstructured's, in the document's order.
        guessed_headings: whether a Title without a depth is a heading. It is a guess from the words alone, so it
            counts only where the format itself knows no headings.
        deepest_heading: deepest `category_depth` that is taken for a heading.
    """
    for element in elements:
        category, text = str(element.category), element.text or ""
        depth, page = element.metadata.category_depth, element.metadata.page_number
        level = 0
        kind: BlockKind = "paragraph"
        match category:
            case "Title" if depth is not None and depth <= deepest_heading:
                kind, level = "heading", min(depth, 5) + 1
            case "Title" if depth is None and guessed_headings and not text.rstrip().endswith(SENTENCE_END):
                kind, level = "heading", 1
            case "ListItem":
                kind = "list_item"
            case "Table":
                kind, text = "table", html_table_text(element.metadata.text_as_html or "") or text
            case "CodeSnippet":
                kind = "code"
            case "Header" | "Footer" | "PageNumber" | "Image" | "FigureCaption" | "PageBreak":
                kind = "other"
            case _:
                pass
        yield Piece(kind, text, level, page)


def through_html(partition: Callable[..., list[Any]], **source: Any) -> list[Any]:
    """The elements of a partitioner that reads by way of HTML, or a refusal where text was lost on that way.

    libxml2 drops what lies deeper than 256 levels and text nodes over 10 MB, and ends early without memory; it says
    so in its log only.
    """
    from lxml import etree  # type: ignore[import-untyped]
    from unstructured.partition.html.parser import html_parser

    try:
        elements = partition(languages=NO_LANGUAGES, **source)
    finally:
        for entry in html_parser.error_log:
            if entry.type == etree.ErrorTypes.ERR_NO_MEMORY:
                raise MemoryError
            if entry.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT:
                if "depth" in entry.message:
                    raise Refused("bomb", "the file is nested more than 256 levels deep")
                raise Refused("too_large", "the file has a single stretch of text of more than 10 MB; split it")
    return elements
