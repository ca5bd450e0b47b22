"""Redriving and dropping over a log in memory: once in effect, whatever is interrupted; audited; nothing newer lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from schemas.index.manifest import Manifest, barrier_document
from schemas.records import AuditEntry, Origin, Position
from streams.core.letters import Letter, Letters, Mark, Place, State, first_seen, redriven_headers
from streams.dlq.ways_back import UnknownLetters, drop, redrive, select, with_superseded
from streams.ports import Inbound


class Died(Exception):
    """The process ended here."""


@dataclass
class Log:
    """Fetch and Writer over lists. dies_before names the call at which the process ends."""

    letters: Letters = field(default_factory=Letters)
    sent: list[tuple[Place, Place]] = field(default_factory=list)
    audited: list[AuditEntry] = field(default_factory=list)
    gone: set[Place] = field(default_factory=set)
    dies_before: str = ""

    def fetch(self, wanted: Sequence[Letter]) -> Iterator[tuple[Letter, Inbound | None]]:
        for one in wanted:
            place = one.rejected
            record = Inbound(place.topic, place.partition, place.offset, one.rejected_ms, b"k", b"v", (("a", b"1"),))
            yield one, None if one.id in self.gone else record

    def send_back(self, returning: Sequence[tuple[Letter, Inbound]]) -> list[Place]:
        self._alive("send")
        places = []
        for letter, record in returning:
            now = Place(letter.first.topic, letter.first.partition, 1_000 + len(self.sent))
            seen, _ = first_seen(redriven_headers(record.headers, letter), now, 10**9)
            self.sent.append((now, seen))
            places.append(now)
        return places

    def audit(self, entries: Sequence[AuditEntry]) -> None:
        self._alive("audit")
        self.audited += entries

    def mark(self, settled: Sequence[tuple[Letter, Mark]]) -> None:
        self._alive("mark")
        for _, mark in settled:
            self.letters.settle(mark)

    def _alive(self, call: str) -> None:
        if call == self.dies_before:
            raise Died


def letter(offset: int, **more: object) -> Letter:
    made = Letter(
        id=Place("dead-letters", 0, offset),
        at_ms=offset,
        stage="capture",
        reason="undecodable",
        error_class="never",
        detail="",
        rejected=Place("events", 0, offset),
        rejected_ms=5,
        first=Place("events", 0, offset),
        first_ms=5,
        size=1,
        left_out=False,
        document=f"t/kb/{offset}",
        position=Position("events/0", 1, offset, 0, 5),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def make_log(*letters: Letter) -> Log:
    log = Log()
    for one in letters:
        log.letters.take(one)
    return log


def run(log: Log, letters: Sequence[Letter] | None = None) -> list[Letter]:
    return list(redrive(letters or log.letters.all(), log.fetch, log, by="mara", now_ms=lambda: 99))


def test_redriven_letters_go_back_with_their_first_place_and_are_audited() -> None:
    log = make_log(letter(1), letter(2))

    done = run(log)

    assert [(one.state, one.by, one.to) for one in done] == [
        (State.REDRIVEN, "mara", "events/0@1000"), (State.REDRIVEN, "mara", "events/0@1001"),
    ]  # fmt: skip
    assert [seen for _, seen in log.sent] == [Place("events", 0, 1), Place("events", 0, 2)]
    assert [(e.actor, e.action, e.resource, e.outcome, e.tenant, e.at_ms) for e in log.audited] == [
        ("mara", "dlq.redrive", "dead-letters/0@1", "redriven", "t", 99),
        ("mara", "dlq.redrive", "dead-letters/0@2", "redriven", "t", 99),
    ]


def test_a_second_redrive_sends_nothing() -> None:
    log = make_log(letter(1))
    run(log)

    assert run(log) == []
    assert len(log.sent) == len(log.audited) == 1


@pytest.mark.parametrize(("dies_before", "sent"), [("send", 1), ("audit", 2), ("mark", 2)])
def test_an_interrupted_redrive_is_finished_by_the_next_and_is_one_version(dies_before: str, sent: int) -> None:
    log = make_log(letter(1))
    log.dies_before = dies_before
    with pytest.raises(Died):
        run(log)
    assert log.letters.all()[0].state is State.PARKED
    log.dies_before = ""

    run(log)

    assert log.letters.all()[0].state is State.REDRIVEN
    assert len(log.sent) == sent
    assert {seen for _, seen in log.sent} == {Place("events", 0, 1)}
    assert log.audited


def test_a_superseded_letter_is_settled_and_not_sent() -> None:
    log = make_log(letter(1))

    done = run(log, [letter(1, state=State.SUPERSEDED)])

    assert ([one.state for one in done], log.sent) == ([State.SUPERSEDED], [])
    assert [entry.outcome for entry in log.audited] == ["superseded"]
    assert log.letters.all()[0].state is State.SUPERSEDED


def test_a_letter_whose_record_is_gone_stays_parked_and_its_neighbours_go() -> None:
    log = make_log(letter(1), letter(2))
    log.gone = {Place("dead-letters", 0, 1)}

    done = run(log)

    assert [str(one.id) for one in done] == ["dead-letters/0@2"]
    assert [one.state for one in log.letters.all()] == [State.PARKED, State.REDRIVEN]


def test_dropped_letters_are_audited_and_never_sent() -> None:
    log = make_log(letter(1))

    done = list(drop(log.letters.all(), log, by="mara", now_ms=lambda: 99))

    assert [one.state for one in done] == [State.DROPPED]
    assert run(log) == []
    assert (log.sent, [entry.action for entry in log.audited]) == ([], ["dlq.drop"])


def test_ids_name_any_letter_and_filters_only_those_not_settled() -> None:
    letters = [letter(1, settled_ms=4, state=State.DROPPED), letter(2), letter(3, stage="index"), letter(4, reason="x")]

    assert select(letters, [Place("dead-letters", 0, 1)], stage=None, reason=None) == letters[:1]
    assert select(letters, [], stage="capture", reason=None) == [letters[1], letters[3]]
    assert select(letters, [], stage="capture", reason="undecodable") == [letters[1]]
    with pytest.raises(UnknownLetters, match="dead-letters/0@9"):
        select(letters, [Place("dead-letters", 0, 9)], stage=None, reason=None)


def manifest(document: str, major: int, *, stream: str = "events/0", grave: bool = False) -> Manifest:
    return Manifest(
        document, Position(stream, 1, major, 0, 5), Origin("event", "s", "", "events", 0, major), grave=grave
    )


@pytest.mark.parametrize(
    ("held", "barrier", "state"),
    [
        ([], None, State.PARKED),
        ([6], None, State.PARKED),
        ([7], None, State.PARKED),
        ([8], None, State.SUPERSEDED),
        ([6, 8], None, State.SUPERSEDED),
        ([], 6, State.PARKED),
        ([], 8, State.SUPERSEDED),
    ],
)
def test_a_letter_is_superseded_by_a_newer_version_or_a_newer_end_of_its_source(
    held: list[int], barrier: int | None, state: State
) -> None:
    def known(tenant: str, documents: Sequence[str], sources: Sequence[str]):  # type: ignore[no-untyped-def]
        assert (tenant, list(documents), list(sources)) == ("t", ["t/kb/7"], ["s"])
        ended = {} if barrier is None else {"s": manifest(barrier_document("s"), barrier, grave=True)}
        return [manifest("t/kb/7", major) for major in held], ended

    (found,) = with_superseded([letter(7, source="s")], known)

    assert found.state is state


def test_a_letter_of_nobody_knows_which_document_is_never_superseded() -> None:
    """Bytes that tell nothing: no question is asked, and a person has to look."""
    unknown = letter(7, document=None, position=None)

    assert with_superseded([unknown], lambda *_: pytest.fail("asked")) == [unknown]


@pytest.mark.parametrize("state", [State.REDRIVEN, State.DROPPED, State.SUPERSEDED])
def test_what_was_settled_before_is_neither_sent_nor_dropped_nor_audited_again(state: State) -> None:
    settled = letter(1, state=state, settled_ms=4, by="somebody")
    log = make_log(settled)

    assert run(log, [settled]) == []
    assert list(drop([settled], log, by="mara", now_ms=lambda: 99)) == []
    assert (log.sent, log.audited) == ([], [])
