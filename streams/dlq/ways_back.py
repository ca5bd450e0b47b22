"""Dead letters as an operator handles them: whose they are, whether anything newer has come, back or away with them.

Before this: `adapters/letter_log.py`. After this: `commands.py`. What an interruption leaves behind is said at
`redrive` and `drop`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from runtime.audit import Kind
from schemas.codec import Codec, DecodeError
from schemas.index.manifest import Manifest, newest
from schemas.records import AuditEntry, DocumentChange, Event, Position, Upload, document_key, split_document_key
from schemas.registry import RegistryUnavailable
from streams.core.changes import NotAChange, document_id, log_position, read_envelope
from streams.core.letters import Letter, Mark, Place, State
from streams.ports import Inbound
from streams.steps.capture import EPOCH_HEADER, CapturedSource

_TOGETHER = 100  # letters settled at once: bounds what an interruption leaves to be done again
_BYTES = 64 * 1024 * 1024  # and the bytes in hand
_OWN = ("events", "uploads")


class UnknownLetters(ValueError):
    """There are no letters with these ids."""


class Known(Protocol):
    """What the index holds of documents."""

    def __call__(
        self, tenant: str, documents: Sequence[str], sources: Sequence[str]
    ) -> tuple[list[Manifest], Mapping[str, Manifest]]:
        """Their manifests, and the newest barrier of each source. Raises TemporaryFailure."""
        ...


class Writer(Protocol):
    """As adapters.letter_log.LetterWriter."""

    def send_back(self, returning: Sequence[tuple[Letter, Inbound]]) -> list[Place]:
        """Append records to their topics again; where they lie now."""
        ...

    def mark(self, settled: Sequence[tuple[Letter, Mark]]) -> None:
        """Say what became of letters."""
        ...

    def audit(self, entries: Sequence[AuditEntry]) -> None:
        """Say who did what."""
        ...


Fetch = Callable[[Sequence[Letter]], Iterator[tuple[Letter, Inbound | None]]]


@dataclass
class Describer:
    """Finds out which document, and which version of it, a letter is about. sources: by topic.

    blind: the registry is away; from then on only keys are read.
    """

    codec: Codec
    sources: Mapping[str, CapturedSource]
    blind: bool = False

    def __call__(self, letter: Letter, record: Inbound) -> Letter:
        """The letter with document, position and source, as far as its bytes tell."""
        first = letter.first
        place = log_position(first.topic, first.partition, first.offset, letter.first_ms)
        if self.blind:
            return self._by_key(letter, record, place)
        try:
            if first.topic == "documents":
                change = self.codec.decode(record.value or b"", DocumentChange)
                return _about(letter, change.key, change.position, change.origin.source)
            if first.topic == "events":
                return _about(letter, self.codec.decode(record.value or b"", Event).key, place, None)
            if first.topic == "uploads":
                return _about(letter, self.codec.decode(record.value or b"", Upload).key, place, None)
            return self._row(letter, record)
        except RegistryUnavailable:
            self.blind = True
            return self._by_key(letter, record, place)
        except ValueError:  # no record of ours, or no row of the source
            return self._by_key(letter, record, place)

    def _row(self, letter: Letter, record: Inbound) -> Letter:
        source = self.sources.get(letter.first.topic)
        if source is None or record.key is None or record.value is None:
            return letter
        key = self.codec.decode_any(record.key)
        name = document_key(source.tenant, source.spec.knowledge_base, document_id(source.spec, key))
        try:
            epoch = int(record.header(EPOCH_HEADER) or 1)
            row = read_envelope(source.spec, key, self.codec.decode_any(record.value), epoch=epoch)
        except (DecodeError, NotAChange):
            return replace(letter, document=name)
        return _about(letter, name, row.position, source.spec.name)

    def _by_key(self, letter: Letter, record: Inbound, place: Position) -> Letter:
        """Our own topics are keyed by the document."""
        if letter.first.topic not in (*_OWN, "documents") or record.key is None:
            return letter
        try:
            name = record.key.decode()
            split_document_key(name)
        except ValueError:
            return letter
        return replace(letter, document=name, position=place if letter.first.topic in _OWN else None)


def with_superseded(letters: Iterable[Letter], known: Known) -> list[Letter]:
    """The letters; a parked one whose document is there in a newer version, or ended since, as superseded.

    The index is asked, by position: it is what a redriven record would meet, and it never forgets the newest version.
    Raises TemporaryFailure.
    """
    letters = list(letters)
    tenants: dict[str, list[Letter]] = defaultdict(list)
    for letter in letters:
        if letter.state is State.PARKED and letter.document is not None and letter.position is not None:
            tenants[split_document_key(letter.document)[0]].append(letter)
    beaten: set[Place] = set()
    for tenant, mine in tenants.items():
        documents = sorted({letter.document for letter in mine if letter.document})
        sources = sorted({letter.source for letter in mine if letter.source})
        manifests, barriers = known(tenant, documents, sources)
        there = newest(manifests)
        beaten |= {
            letter.id
            for letter in mine
            if letter.position is not None
            and _beaten(letter.position, there.get(letter.document or ""), barriers.get(letter.source or ""))
        }
    return [replace(letter, state=State.SUPERSEDED) if letter.id in beaten else letter for letter in letters]


def select(letters: Sequence[Letter], ids: Sequence[Place], *, stage: str | None, reason: str | None) -> list[Letter]:
    """Those with these ids, whatever their state; or, without ids, those not settled of this stage and reason.

    Raises UnknownLetters.
    """
    if ids:
        by_id = {letter.id: letter for letter in letters}
        if unknown := [str(one) for one in ids if one not in by_id]:
            raise UnknownLetters(f"no such dead letter: {', '.join(unknown)}")
        return [by_id[one] for one in dict.fromkeys(ids)]
    return [
        letter
        for letter in letters
        if letter.settled_ms is None and stage in (None, letter.stage) and reason in (None, letter.reason)
    ]


def redrive(
    letters: Sequence[Letter], fetch: Fetch, writer: Writer, *, by: str, now_ms: Callable[[], int]
) -> Iterator[Letter]:
    """Put the records of parked letters back; yields each letter with its new state, when that is durable.

    1. Append the record to its topic again, with where and when it was first accepted.
       Death after it: the letter is still parked, and the next redrive appends the record once more. Both have the
       position of the first, so they are one version of the document, and the second changes nothing.
    2. Say so in `audit`.
    3. Mark the letter. From here on a redrive leaves it alone.

    A superseded letter is marked and not sent: what is newer stays, also in `documents`, whose compaction keeps the
    last record of a document. One whose record is no longer kept anywhere stays parked.
    """
    todo = [letter for letter in letters if letter.settled_ms is None]
    for part in _parts(fetch([letter for letter in todo if letter.state is State.PARKED])):
        found = [(letter, record) for letter, record in part if record is not None]
        places = writer.send_back(found)
        yield from _settle(
            [(letter, State.REDRIVEN, str(place)) for (letter, _), place in zip(found, places, strict=True)],
            writer, by=by, now_ms=now_ms,
        )  # fmt: skip
    beaten = [(letter, State.SUPERSEDED, "") for letter in todo if letter.state is State.SUPERSEDED]
    yield from _settle(beaten, writer, by=by, now_ms=now_ms)


def drop(letters: Sequence[Letter], writer: Writer, *, by: str, now_ms: Callable[[], int]) -> Iterator[Letter]:
    """Give letters up: audited, then marked. Death between the two: the next drop audits it once more."""
    todo = [(letter, State.DROPPED, "") for letter in letters if letter.settled_ms is None]
    yield from _settle(todo, writer, by=by, now_ms=now_ms)


def _settle(
    settled: Sequence[tuple[Letter, State, str]], writer: Writer, *, by: str, now_ms: Callable[[], int]
) -> Iterator[Letter]:
    """Audit and mark, so many at once; each is yielded when that is durable."""
    for at in range(0, len(settled), _TOGETHER):
        part, now = settled[at : at + _TOGETHER], now_ms()
        writer.audit([_entry(letter, state, to, by, now) for letter, state, to in part])
        marks = [(one, Mark(one.stage, one.rejected, state, by, to, now)) for one, state, to in part]
        writer.mark(marks)
        for letter, mark in marks:
            yield replace(letter, state=mark.state, by=by, to=mark.to or None, settled_ms=now)


def _entry(letter: Letter, state: State, to: str, by: str, now_ms: int) -> AuditEntry:
    detail = {"stage": letter.stage, "reason": letter.reason, "record": str(letter.first)}
    if letter.document:
        detail["document"] = letter.document
    if to:
        detail["to"] = to
    return AuditEntry(
        at_ms=now_ms,
        actor=by,
        action="dlq.drop" if state is State.DROPPED else "dlq.redrive",
        resource=str(letter.id),
        outcome=state.value,
        tenant=split_document_key(letter.document)[0] if letter.document else "",
        detail=detail,
        kind=Kind.CONFIGURATION,
    )


def _about(letter: Letter, document: str, position: Position, source: str | None) -> Letter:
    return replace(letter, document=document, position=position, source=source)


def _beaten(position: Position, there: Manifest | None, barrier: Manifest | None) -> bool:
    return (there is not None and there.position.newer_than(position)) or (
        barrier is not None and barrier.position.ends(position)
    )


def _parts(found: Iterator[tuple[Letter, Inbound | None]]) -> Iterator[list[tuple[Letter, Inbound | None]]]:
    part: list[tuple[Letter, Inbound | None]] = []
    size = 0
    for letter, record in found:
        part.append((letter, record))
        size += len(record.value or b"") if record else 0
        if len(part) >= _TOGETHER or size >= _BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
