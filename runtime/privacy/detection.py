"""Finds e-mail addresses, phone numbers, payment cards, accounts and numbers of persons in a text. Pure.

Whether something is found depends on it and the characters right beside it alone, and for a phone number on the stretch
of digits and separators that it stands in: so an edit elsewhere changes nothing here. Patterns take time in proportion
to the text, whatever is in it. Before this: `policy.py`. After this: `masking.py`.

Names of people are not looked for: word lists and the small language models miss too many to be relied on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import phonenumbers
from phonenumbers import Leniency, PhoneNumberFormat, PhoneNumberMatcher

from runtime.privacy import checksums
from runtime.privacy.checksums import Check
from runtime.privacy.policy import Kind


@dataclass(frozen=True)
class Match:
    """The characters [start, end). value is what they say in one spelling, the same for the same address or number."""

    kind: Kind
    start: int
    end: int
    value: str


_LETTERS = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0370-\u03ff\u0400-\u04ff"
_A = f"0-9{_LETTERS}"
"""Letters and digits that belong to a word: Latin, Greek, Cyrillic. Others may stand beside a match without a space."""

_NOT_WITHIN_MASK = "(?!_(?:id_)?[a-p]{20})"
"""Not where a token goes on after its first word: masked text is masked once, whatever stood before the token."""

_NO_MASK = re.compile(_NOT_WITHIN_MASK)

_EMAIL = re.compile(
    rf"(?<![{_A}])[{_A}][{_A}._%+'-]{{0,63}}+@(?:[{_A}](?:[{_A}-]{{0,62}}+)\.){{1,8}}"
    rf"(?:[{_LETTERS}]{{2,63}}|xn--[a-z0-9-]{{2,59}})(?![{_A}@]){_NOT_WITHIN_MASK}"
)
_CARDS = tuple(
    re.compile(rf"(?<![{_A}])(?=({pattern})(?![{_A}]))")
    for pattern in (
        r"\d{13,19}",
        r"\d{4}([ -])\d{4}\2\d{4}\2\d{4}",
        r"\d{4}([ -])\d{4}\2\d{4}\2\d{4}\2\d{3}",
        r"\d{4}([ -])\d{6}\2\d{4,5}",
    )
)
_IBAN = re.compile(rf"(?<![{_A}])[A-Za-z]{{2}}\d{{2}}(?=[ 0-9A-Za-z])", re.ASCII)

_PERSONS: tuple[tuple[re.Pattern[str], Check], ...] = tuple(
    (re.compile(rf"(?<![{_A}])(?={pattern}(?![{_A}]))", re.IGNORECASE | re.ASCII), check)
    for pattern, check in (
        # United States: the SSN, with its separators, for nine bare digits are anything.
        (r"((?!000|666|9)\d{3}([- ])(?!00)\d{2}\2(?!0000)\d{4})", checksums.always),
        # United Kingdom: the NINO.
        (
            r"((?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D])",
            checksums.always,
        ),
        (r"([1-9]\d ?\d{3} ?\d{3} ?\d{3})", checksums.german_tax_number),
        (
            r"([1278] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2})",
            checksums.french_social_security,
        ),
        (r"((?:\d{8}|[XYZ]-?\d{7})-?[A-Z])", checksums.spanish_identity),
        (r"([A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z])", checksums.italian_tax_code),
        (r"(756\.?\d{4}\.?\d{4}\.?\d{2})", checksums.swiss_social_security),
        (r"(\d{11})", checksums.polish_pesel),
    )
)
_PHONE_RUN = re.compile(r"[+\d()./ \u00a0\u2010-\u2015-]{7,}")
_LONGEST_RUN = 1000
"""A longer stretch of digits and separators is looked through piece by piece: it is a table."""

_NUMBER_BEGINS = re.compile(r"(?<=[\d)])[ \u00a0]+(?=[+(0])")
_FEWEST_DIGITS = 7
_SPELT = PhoneNumberFormat.E164
_MOST_LOOKS = 8


def find(text: str, kinds: Collection[Kind], region: str = "") -> list[Match]:
    """All that is found, in order; no two overlap. region: as Policy.region."""
    found = [match for kind, look in _LOOKS.items() if kind in kinds for match in look(text)]
    found = _apart(text, found)
    if "phone" in kinds:
        found = sorted([*found, *_phones(text, found, region)], key=lambda match: match.start)
    return found


def _apart(text: str, found: list[Match]) -> list[Match]:
    """Of one within another the outer one. Two that overlap become one: all of it must go, whichever is meant."""
    order = {kind: place for place, kind in enumerate(_LOOKS)}
    whole: list[Match] = []
    for match in sorted(found, key=lambda m: (m.start, -m.end, order[m.kind])):
        last = whole[-1] if whole else None
        if last is None or match.start >= last.end:
            whole.append(match)
        elif match.end > last.end:
            kind = min(last.kind, match.kind, key=lambda k: order[k])
            whole[-1] = Match(kind, last.start, match.end, _plain(text[last.start : match.end]))
    return whole


def _emails(text: str) -> Iterator[Match]:
    for found in _EMAIL.finditer(text):
        yield Match("email", found.start(), found.end(), found.group().casefold())


def _cards(text: str) -> Iterator[Match]:
    for pattern in _CARDS:
        for found in pattern.finditer(text):
            digits = _plain(found.group(1))
            if checksums.card(digits):
                yield Match("card", found.start(), found.end(1), digits)


def _ibans(text: str) -> Iterator[Match]:
    for found in _IBAN.finditer(text):
        length = checksums.IBAN_LENGTHS.get(found.group()[:2].upper())
        if length is None:
            continue
        end, characters = found.start(), 0
        while end < len(text) and characters < length:
            if text[end] == " " and text[end - 1] != " ":
                end += 1
                continue
            if not (text[end].isascii() and text[end].isalnum()):
                break
            end, characters = end + 1, characters + 1
        value = _plain(text[found.start() : end])
        # A row of digits and a token's first word have the right checksum together once in a hundred times.
        alone = not _beside(text, end) and _NO_MASK.match(text, end)
        if characters == length and alone and checksums.iban(value):
            yield Match("iban", found.start(), end, value)


def _persons(text: str) -> Iterator[Match]:
    for pattern, check in _PERSONS:
        for found in pattern.finditer(text):
            value = _plain(found.group(1))
            if check(value):
                yield Match("national_id", found.start(), found.end(1), value)


_LOOKS: Mapping[Kind, Callable[[str], Iterator[Match]]] = {
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "national_id": _persons,
}
"""Of two that overlap, the first of these gives its kind: an address that begins with a number is an address."""


def _phones(text: str, taken: list[Match], region: str) -> Iterator[Match]:
    """Phone numbers in the gaps between what was found before."""
    at = 0
    for match in [*taken, Match("phone", len(text), len(text), "")]:
        for run in _PHONE_RUN.finditer(text, at, match.start):
            for start, end in _pieces(run.start(), run.group()):
                yield from _in_run(text, start, end, region or None, _MOST_LOOKS)
        at = match.end


def _pieces(at: int, run: str) -> Iterator[tuple[int, int]]:
    """A stretch, or where it is too long its parts, cut at spaces where there are any."""
    begin = 0
    while len(run) - begin > _LONGEST_RUN:
        cut = run.rfind(" ", begin + 1, begin + _LONGEST_RUN)
        cut = cut if cut > begin else begin + _LONGEST_RUN
        yield at + begin, at + cut
        begin = cut
    yield at + begin, at + len(run)


def _in_run(text: str, start: int, end: int, region: str | None, looks: int) -> list[Match]:
    """All numbers of a stretch; looked through again between those that were found, until there is nothing more."""
    run = text[start:end]
    if looks == 0 or sum(map(str.isdigit, run)) < _FEWEST_DIGITS:
        return []
    found = [
        Match("phone", start + seen.start, start + seen.end, phonenumbers.format_number(seen.number, _SPELT))
        for seen in PhoneNumberMatcher(run, region, Leniency.VALID)
        if not (_beside(text, start + seen.start - 1) or _beside(text, start + seen.end))
    ]
    if not found:
        # Two numbers with nothing but a space between them look like one that is too long.
        cuts = [start, *(start + gap.end() for gap in _NUMBER_BEGINS.finditer(run)), end]
        if len(cuts) > 2:
            found = [match for part in pairwise(cuts) for match in _in_run(text, *part, region, looks - 1)]
    if not found:
        return []
    # What is left between them is a stretch like any other: once they are masked, it would be looked through as one.
    ends = [start, *(match.end for match in found)]
    starts = [*(match.start for match in found), end]
    left = [match for gap in zip(ends, starts, strict=True) for match in _in_run(text, *gap, region, looks - 1)]
    return sorted([*found, *left], key=lambda match: match.start)


_WORD = re.compile(f"[{_A}]")


def _beside(text: str, at: int) -> bool:
    """True if the character at this place is there and belongs to a word."""
    return 0 <= at < len(text) and _WORD.match(text[at]) is not None


def _plain(text: str) -> str:
    """Letters and digits, in capitals; digits of other scripts as ours."""
    return "".join(str(int(c)) if c.isdecimal() else c.upper() for c in text if c.isalnum())
