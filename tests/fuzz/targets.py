"""What is fuzzed: functions of bytes that raise only where the code under them breaks a promise.

Before: `__main__.py`, which instruments the product's modules while this one is imported. SEEDS are tried first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from query_api.retrieval.filters import FilterRefused, Known, parse
from query_api.retrieval.ports import Criteria
from query_api.retrieval.rights import Rights
from query_api.retrieval.weaviate_filters import where
from runtime.privacy.detection import find
from runtime.privacy.masking import Masker
from runtime.privacy.policy import KINDS
from schemas.codec import Codec
from schemas.lanes import Lane
from schemas.records import DocumentChange, Event, Receipt
from schemas.source import SourceSpec, parse_source
from streams.core.chunking import ChunkingParameters, chunk
from streams.core.outcomes import Done, Rejected
from streams.ports import Inbound
from streams.steps.capture import EPOCH_HEADER, CapturedSource, CaptureStep
from tests.support.lookup import LocalLookup
from tests.support.tiling import assert_tiles
from tests.support.unprotected import unprotected

_KEY, _ENVELOPE = 1001, 1002
_SHOP = parse_source(
    "name: shop\nknowledge_base: kb\ntable: public.page\nkey: [id]\ntext: body\nmetadata: [year]\naccess: readers\n"
)
_FIELDS = [
    {"name": "id", "type": "long"},
    {"name": "body", "type": ["null", "string", "bytes"]},
    {"name": "year", "type": ["null", "int", "double", {"type": "array", "items": ["null", "string", "double"]}]},
    {"name": "readers", "type": ["null", "string", {"type": "array", "items": ["null", "string"]}]},
]
_SCHEMAS: Mapping[int, dict[str, Any]] = {
    _KEY: {"type": "record", "name": "Key", "fields": _FIELDS[:1]},
    _ENVELOPE: {
        "type": "record",
        "name": "Envelope",
        "fields": [
            {"name": "before", "type": ["null", {"type": "record", "name": "Value", "fields": _FIELDS}]},
            {"name": "after", "type": ["null", "Value"]},
            {
                "name": "source",
                "type": {
                    "type": "record",
                    "name": "Source",
                    "fields": [
                        {"name": "lsn", "type": ["null", "long"]},
                        {"name": "ts_ms", "type": "long"},
                        {"name": "snapshot", "type": ["null", "string"]},
                    ],
                },
            },
            {"name": "op", "type": "string"},
        ],
    },
}
"""As Debezium's converter registers a table's rows, as far as they are read."""


def _codec() -> Codec:
    lookup = LocalLookup()
    for number, schema in _SCHEMAS.items():
        lookup.add(number, schema)
    return Codec(lookup)


_CODEC = _codec()
_EVENT = LocalLookup().id_of("events-value")


class _Log:
    """Takes every change, as the bytes that Kafka would get."""

    def changes(self, changes: Sequence[tuple[DocumentChange, Lane]]) -> None:
        for change, _ in changes:
            _CODEC.encode("documents", change)

    def receipts(self, receipts: Sequence[Receipt]) -> None:
        """Not asked for here."""


class _Rows:
    """The source, where each row is gone by now."""

    def read(self, spec: SourceSpec, key: Mapping[str, Any]) -> dict[str, Any] | None:
        return None


class _Clock:
    def now_ms(self) -> int:
        return 1


_SOURCES = {_SHOP.topic: CapturedSource("t", _SHOP)}
_CAPTURE = CaptureStep(_CODEC, _Log(), _Rows(), _Clock(), _SOURCES, lambda: _SOURCES, unprotected)


def records(data: bytes) -> None:
    """The capture stage: any bytes are a change, or a dead letter at once. A wait would hold the partition up."""
    kind, rest = data[:1], data[1:]
    key, _, value = rest.partition(b"\xff\xff")
    if kind == b"e":
        record = Inbound("events", 0, 0, 1, None, _framed(_EVENT, rest))
    elif kind == b"r":
        record = Inbound(_SHOP.topic, 0, 0, 1, _framed(_KEY, key), _framed(_ENVELOPE, value))
    else:
        headers = ((EPOCH_HEADER, key),)
        record = Inbound(_SHOP.topic, 0, 0, 1, None, _framed(_ENVELOPE, value), headers)
    (outcome,) = _CAPTURE.handle_now([record])
    if not isinstance(outcome, Done) and not (isinstance(outcome, Rejected) and not outcome.defect):
        raise AssertionError(f"{outcome}")


def _framed(schema: int, body: bytes) -> bytes:
    return b"\x00" + schema.to_bytes(4, "big") + body


def chunks(data: bytes) -> None:
    """The chunker: in order, within bounds, nothing left out but white space."""
    kind, text = data[:1], data[1:].decode("utf-8", "replace")
    most = (160, 400, 1700)[kind[0] % 3] if kind else 160
    content_type = "text/markdown" if kind and kind[0] & 4 else "text/plain"
    assert_tiles(text, chunk(text, content_type=content_type, parameters=ChunkingParameters(most=most)), most)


_KNOWN = Known({"year": {"number": "f_n_year"}, "team": {"text": "f_s_team"}}, lambda name: (f"t/kb/{name}",))
_RIGHTS = Rights("t", {"kb": True}, frozenset({"ann"}))


def filters(data: bytes) -> None:
    """The filter of a search: any JSON narrows it, or is refused."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(raw, dict):
        return
    try:
        wanted = parse(raw, _KNOWN)
    except FilterRefused:
        return
    where(Criteria(_RIGHTS, wanted))


_LONGEST_TABLE = 1000
"""Characters: a longer stretch of digits is looked through in pieces, and tokens shift where they are cut."""

_MASKER = Masker("0" * 32, "t")


def personal(data: bytes) -> None:
    """What is masked: matches in order and apart; what was masked is not masked again."""
    text = data.decode("utf-8", "replace")[:_LONGEST_TABLE]
    at = 0
    for match in find(text, KINDS, "DE"):
        assert at <= match.start < match.end <= len(text)
        at = match.end
    once = _MASKER.masked(text, KINDS, "DE").text
    assert _MASKER.masked(once, KINDS, "DE").text == once


def planted(data: bytes) -> None:
    """Fails at one input of a thousand: `test_fuzz.py` sees that it is found."""
    if len(data) >= 2 and b"t"[0] <= data[0] <= b"z"[0] and b"t"[0] <= data[1] <= b"z"[0]:
        raise AssertionError("planted")


def _seed_records() -> Iterable[bytes]:
    event = _CODEC.encode("events", Event("t", "kb", "heron", text="Herons fish.", metadata={"year": 2024}))
    yield b"e" + event[5:]
    row = b"\x02\x02\x02\x06abc\x02\xd0\x1f\x00"  # id 1, text, year, no readers
    source = b"\x02\x0e\x10\x02\x0afalse"
    for operation in b"cudrtm":
        yield b"r\x02\xff\xff\x00" + row + source + b"\x02" + bytes([operation])
    yield b"h9\xff\xff\x00" + row + source + b"\x02c"


_SEED_FILTERS: list[dict[str, Any]] = [
    {"year": {"gt": 2020, "lte": 2025}},
    {"team": {"in": ["a", "b"]}, "source": "shop"},
    {"or": [{"year": 1}, {"and": [{"team": {"ne": "x"}}, {"document_id": {"nin": ["1"]}}]}]},
]
_MARKDOWN = "# A\n\nOne. Two.\n\n- a\n- b\n\n```\nx = 1\n```\n\n| a | b |\n| - | - |\n| 1 | 2 |\n"

TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "records": records,
    "chunks": chunks,
    "filters": filters,
    "personal": personal,
    "planted": planted,
}
"""By the name that `python -m tests.fuzz` takes."""

SEEDS: Mapping[str, Sequence[bytes]] = {
    "records": tuple(_seed_records()),
    "chunks": (b"\x05" + _MARKDOWN.encode(), b"\x01" + b"One sentence. " * 40, b"\x02" + b"x" * 900),
    "filters": tuple(json.dumps(one).encode() for one in _SEED_FILTERS),
    "personal": (
        b"ann@example.com, +49 30 901820, 4111 1111 1111 1111",
        b"DE89 3704 0044 0532 0130 00, 123-45-6789, AB 12 34 56 C",
    ),
    "planted": (b"aaaa",),
}
