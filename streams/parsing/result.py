"""What parsing gives: text with structure, or the reason why there is none. Pure.

Before it: a partitioner's pieces (partition.py). After it: the document that the parse step publishes, and the
chunker, which reads the blocks.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

BlockKind = Literal["heading", "paragraph", "list_item", "table", "code", "other"]
FailureReason = Literal[
    "corrupt", "encrypted", "timeout", "memory", "too_large", "unsupported", "empty", "crashed", "bomb"
]

# Characters that a reader cannot see and that hide instructions or break encoders: controls except tab and
# newline, soft hyphens, zero-width space and joiner-less marks, bidi overrides and isolates, tags, lone surrogates.
# The joiners U+200C and U+200D stay: Persian and emoji need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_LINE_ENDS = re.compile("\r\n?|[\x85\u2028\u2029\x0b\x0c]")
_BLANK_LINES = re.compile(r"\n[ \t\u00a0]*(?:\n[ \t\u00a0]*)+")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of the text: characters `start` to `end` of it (Python string offsets, end exclusive)."""

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    """1 to 6 for headings, 0 for all else."""
    page: int | None = None
    """Page, slide or sheet, counted from 1, where the format has such."""


@dataclass(frozen=True, slots=True)
class ParsedText:
    """A document's text: the blocks' spans joined with '\\n' between two list items and '\\n\\n' elsewhere."""

    text: str
    blocks: tuple[Block, ...]
    title: str | None
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class ParseFailure:
    """Why a file has no text. `detail` is for the uploader: no stack trace, no text of the document."""

    reason: FailureReason
    detail: str


class Refused(Exception):
    """Raised inside the parsing child with the failure to report; it never leaves the child."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        super().__init__(detail)
        self.failure = ParseFailure(reason, detail)


@dataclass(frozen=True, slots=True)
class Piece:
    """A block before it has its place in the text."""

    kind: BlockKind
    text: str
    level: int = 0
    page: int | None = None


def assemble(
    pieces: Iterable[Piece], *, title: str | None, metadata: dict[str, str], heading_is_title: bool = True
) -> ParsedText:
    """Clean the pieces, join them and note where each lies; pieces without visible text are dropped.

    A missing title is taken from the first heading, if that can be one. The text may be empty: the caller decides
    what that means.
    """
    parts: list[str] = []
    blocks: list[Block] = []
    at = 0
    for piece in pieces:
        text = clean(piece.text, keep_blank_lines=piece.kind == "code")
        if not text:
            continue
        if blocks:
            separator = "\n" if piece.kind == blocks[-1].kind == "list_item" else "\n\n"
            parts.append(separator)
            at += len(separator)
        blocks.append(Block(piece.kind, at, at + len(text), piece.level, piece.page))
        parts.append(text)
        at += len(text)
    text = "".join(parts)
    title = clean(title or "").replace("\n", " ")
    if not title and heading_is_title:
        title = next((text[b.start : b.end] for b in blocks if b.kind == "heading"), "").replace("\n", " ")
    kept = {name: " ".join(clean(value).split()) for name, value in metadata.items()}
    return ParsedText(text, tuple(blocks), title[:500] or None, {n: v[:1000] for n, v in kept.items() if v})


def clean(text: str, *, keep_blank_lines: bool = False) -> str:
    """The text without invisible characters and outer blank space; blank lines inside only where asked for."""
    text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
    if keep_blank_lines:
        return text.strip("\n").rstrip()
    return _BLANK_LINES.sub("\n", text).strip()


def to_json(result: ParsedText | ParseFailure) -> bytes:
    """The result as the child sends it."""
    if isinstance(result, ParseFailure):
        return json.dumps({"failure": [result.reason, result.detail]}).encode()
    blocks = [[b.kind, b.start, b.end, b.level, b.page] for b in result.blocks]
    body = {"text": result.text, "blocks": blocks, "title": result.title, "metadata": result.metadata}
    return json.dumps(body, ensure_ascii=False).encode()


def from_json(raw: bytes) -> ParsedText | ParseFailure:
    """Read what a child sent, trusting nothing: it may have been taken over by the file it read.

    Raises:
        ValueError: it is not a result, or its blocks do not cover its text in order.
    """
    try:
        body: dict[str, Any] = json.loads(raw)
        if "failure" in body:
            reason, detail = body["failure"]
            if reason not in get_args(FailureReason) or not isinstance(detail, str):
                raise ValueError("unknown failure")
            return ParseFailure(reason, detail[:500])
        text, title = body["text"], body["title"]
        metadata = {str(name): str(value) for name, value in body["metadata"].items()}
        blocks = tuple(Block(*block) for block in body["blocks"])
        if not isinstance(text, str) or not (title is None or isinstance(title, str)):
            raise ValueError("text or title is no string")
        _check_blocks(text, blocks)
    except (TypeError, KeyError, AttributeError, RecursionError) as malformed:
        raise ValueError("not a parse result") from malformed
    return ParsedText(text, blocks, title, metadata)


def _check_blocks(text: str, blocks: tuple[Block, ...]) -> None:
    at = 0
    for before, block in zip((None, *blocks), blocks, strict=False):
        separator = ""
        if before is not None:
            separator = "\n" if before.kind == block.kind == "list_item" else "\n\n"
        gap = block.start - at
        fits = gap == len(separator) and text[at : block.start] == separator and block.start < block.end <= len(text)
        levels = range(1, 7) if block.kind == "heading" else range(1)
        page_ok = block.page is None or (isinstance(block.page, int) and block.page > 0)
        if not fits or block.kind not in get_args(BlockKind) or block.level not in levels or not page_ok:
            raise ValueError("the blocks do not cover the text in order")
        at = block.end
    if at != len(text):
        raise ValueError("the blocks do not cover the text in order")
