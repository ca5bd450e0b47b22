"""A dead letter: a record no stage could take, byte for byte, the reason in headers behind its own; and its state.

Before this: a step rejected a record. After this: `adapters/outbox.py` writes letters, `adapters/letter_log.py` reads
them and what became of them, `ports.py` (Inbound.first_seen) reads what a redriven record carries. Pure.

Three blocks of headers are ours, each complete, in order, and at the very end of its record. So a header of the same
name that came with the record itself is never taken for ours, and the record's own headers are what lies before.
The names `__streams.errors.*` are those of KIP-1034.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from schemas.records import Position

Headers = Sequence[tuple[str, bytes | None]]

TOPIC = "dead-letters"

HEADROOM = 1_048_576
"""Bytes; a letter of the largest record is larger than it by the headers that say why, and its topic takes as much."""

LETTER = (
    "__streams.errors.exception",  # the reason: a slug
    "__streams.errors.stacktrace",  # where it was raised, if it was an error nobody foresaw
    "__streams.errors.message",
    "__streams.errors.topic",  # this, partition and offset: where the record lies that was rejected
    "__streams.errors.partition",
    "__streams.errors.offset",
    "thalweg.stage",
    "thalweg.error.class",  # `never`, or `defect`: an error nobody foresaw, which stayed
    "thalweg.timestamp",  # the rejected record's, in milliseconds, as its log has it
    "thalweg.value",  # `here`, or `left-out`: too large for the topic, it lies where the record lies
)
MARK = ("thalweg.letter.stage", "thalweg.letter.of", "thalweg.letter.state", "thalweg.letter.by", "thalweg.letter.to")
REDRIVEN = ("thalweg.redriven.from", "thalweg.redriven.timestamp", "thalweg.redriven.letter")

_MESSAGE, _TRACE = 1000, 4000  # characters kept


class NotRedriven(ValueError):
    """The headers that a redrive writes are there, but cannot have been written by one."""


class State(StrEnum):
    """What became of a letter. Only parked ones wait for anybody."""

    PARKED = "parked"
    REDRIVEN = "redriven"
    DROPPED = "dropped"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, order=True)
class Place:
    """Where a record lies; as text `topic/partition@offset`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}@{self.offset}"

    @staticmethod
    def parse(text: str) -> Place:
        """Back from the text. Raises ValueError."""
        head, at, offset = text.rpartition("@")
        topic, slash, partition = head.rpartition("/")
        if not (at and slash and topic and offset.isdecimal() and partition.isdecimal()):
            raise ValueError(f"{text!r} is no place: topic/partition@offset")
        return Place(topic, int(partition), int(offset))


@dataclass(frozen=True)
class Letter:
    """A dead letter without its bytes.

    rejected: where the rejected record lies; rejected_ms: its timestamp. first and first_ms: the same of the record
    as it was first accepted, which differs if it had been redriven. size: bytes of the value. document and position:
    whom and which version it is about, where its bytes tell. by, to, settled_ms: who settled it, when, and where a
    redrive put it. trace: where a defect was raised.
    """

    id: Place
    at_ms: int
    stage: str
    reason: str
    error_class: str
    detail: str
    rejected: Place
    rejected_ms: int
    first: Place
    first_ms: int
    size: int
    left_out: bool
    document: str | None = None
    position: Position | None = None
    source: str | None = None
    state: State = State.PARKED
    by: str | None = None
    to: str | None = None
    settled_ms: int | None = None
    trace: str = ""


@dataclass(frozen=True)
class Mark:
    """What became of a letter, by what it is about: a record parked twice is one letter."""

    stage: str
    of: Place
    state: State
    by: str
    to: str
    at_ms: int


def letter_headers(
    own: Headers,
    rejected: Place,
    timestamp_ms: int,
    *,
    stage: str,
    reason: str,
    detail: str,
    error_class: str,
    trace: str = "",
    left_out: bool = False,
) -> list[tuple[str, bytes | None]]:
    """The headers of a letter: the record's own, then why."""
    values = (
        reason, trace[-_TRACE:], detail[:_MESSAGE], rejected.topic, str(rejected.partition), str(rejected.offset),
        stage, error_class, str(timestamp_ms), "left-out" if left_out else "here",
    )  # fmt: skip
    return [*own, *_block(LETTER, values)]


def mark_headers(mark: Mark) -> list[tuple[str, bytes | None]]:
    """The headers of the record that settles a letter; its value is empty."""
    return _block(MARK, (mark.stage, str(mark.of), mark.state.value, mark.by, mark.to))


def redriven_headers(own: Headers, letter: Letter) -> list[tuple[str, bytes | None]]:
    """The headers with which a letter's record goes back: its own, then where and when it was first accepted."""
    kept = list(own)
    if _ends_with(own, REDRIVEN):  # redriven before: what it carries of then is replaced
        kept = kept[: -len(REDRIVEN)]
    return [*kept, *_block(REDRIVEN, (str(letter.first), str(letter.first_ms), str(letter.id)))]


def own_headers(headers: Headers) -> list[tuple[str, bytes | None]]:
    """The rejected record's own headers, from a letter's."""
    return list(headers[: -len(LETTER)])


def first_seen(headers: Headers, here: Place, timestamp_ms: int) -> tuple[Place, int]:
    """Where and when a record was first accepted: here and now, unless a redrive put it back.

    The headers are believed only if they make the record older, within its own partition. So whoever else writes them
    can at most lose against what is there: nothing newer is ever replaced. Raises NotRedriven.
    """
    if not any(name in REDRIVEN for name, _ in headers):
        return here, timestamp_ms
    found = _values(headers, REDRIVEN)
    if found is None:
        raise NotRedriven("some of the headers thalweg.redriven.* are there, but not as a redrive writes them")
    try:
        first, first_ms = Place.parse(found["thalweg.redriven.from"]), int(found["thalweg.redriven.timestamp"])
    except ValueError as error:
        raise NotRedriven(f"thalweg.redriven.*: {error}") from error
    if (first.topic, first.partition) != (here.topic, here.partition) or first.offset >= here.offset:
        raise NotRedriven(f"the record at {here} says that it was first at {first}: not an earlier place there")
    if not 0 < first_ms <= timestamp_ms:
        raise NotRedriven(f"the record at {here} says that it was first there at {first_ms} ms, which is later")
    return first, first_ms


def read_letter(id_: Place, at_ms: int, headers: Headers, size: int) -> Letter | None:
    """The letter that a record of the topic is; None if it is none."""
    found = _values(headers, LETTER)
    if found is None:
        return None
    try:
        rejected = Place(
            found["__streams.errors.topic"],
            int(found["__streams.errors.partition"]),
            int(found["__streams.errors.offset"]),
        )
        rejected_ms = int(found["thalweg.timestamp"])
    except ValueError:
        return None
    try:
        first, first_ms = first_seen(own_headers(headers), rejected, rejected_ms)
    except NotRedriven:
        first, first_ms = rejected, rejected_ms
    return Letter(
        id=id_,
        at_ms=at_ms,
        stage=found["thalweg.stage"],
        reason=found["__streams.errors.exception"],
        error_class=found["thalweg.error.class"],
        detail=found["__streams.errors.message"],
        rejected=rejected,
        rejected_ms=rejected_ms,
        first=first,
        first_ms=first_ms,
        size=size,
        left_out=found["thalweg.value"] == "left-out",
        trace=found["__streams.errors.stacktrace"],
    )


def read_mark(at_ms: int, headers: Headers) -> Mark | None:
    """The mark that a record of the topic is; None if it is none."""
    found = _values(headers, MARK)
    if found is None or len(headers) != len(MARK):
        return None
    try:
        of, state = Place.parse(found["thalweg.letter.of"]), State(found["thalweg.letter.state"])
    except ValueError:
        return None
    return Mark(found["thalweg.letter.stage"], of, state, found["thalweg.letter.by"], found["thalweg.letter.to"], at_ms)


@dataclass
class Letters:
    """The letters of a topic as its records tell them, in any order of partitions."""

    _found: dict[tuple[str, Place], Letter] = field(default_factory=dict)
    _marks: dict[tuple[str, Place], Mark] = field(default_factory=dict)

    def take(self, letter: Letter) -> None:
        """A letter was read; the oldest of the same record counts."""
        known = self._found.get((letter.stage, letter.rejected))
        if known is None or letter.at_ms < known.at_ms:
            self._found[letter.stage, letter.rejected] = letter

    def settle(self, mark: Mark) -> None:
        """A mark was read; the first counts."""
        known = self._marks.get((mark.stage, mark.of))
        if known is None or mark.at_ms < known.at_ms:
            self._marks[mark.stage, mark.of] = mark

    def all(self) -> list[Letter]:
        """Every letter with its state, oldest first."""
        return sorted((self._settled(letter) for letter in self._found.values()), key=lambda one: (one.at_ms, one.id))

    def _settled(self, letter: Letter) -> Letter:
        mark = self._marks.get((letter.stage, letter.rejected))
        if mark is None:
            return letter
        return replace(letter, state=mark.state, by=mark.by, to=mark.to or None, settled_ms=mark.at_ms)


def counts(letters: Iterable[Letter]) -> Mapping[tuple[str, str], int]:
    """How many letters there are of each stage and reason, sorted by them."""
    found: dict[tuple[str, str], int] = {}
    for letter in letters:
        found[letter.stage, letter.reason] = found.get((letter.stage, letter.reason), 0) + 1
    return dict(sorted(found.items()))


def _block(names: Sequence[str], values: Sequence[str]) -> list[tuple[str, bytes | None]]:
    return [(name, value.encode("utf-8", "replace")) for name, value in zip(names, values, strict=True)]


def _ends_with(headers: Headers, names: Sequence[str]) -> bool:
    return tuple(name for name, _ in headers[-len(names) :]) == tuple(names)


def _values(headers: Headers, names: Sequence[str]) -> dict[str, str] | None:
    if not _ends_with(headers, names):
        return None
    return {name: (value or b"").decode("utf-8", "replace") for name, value in headers[-len(names) :]}
