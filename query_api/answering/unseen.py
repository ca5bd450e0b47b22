"""Characters that nobody sees: they hide text from people that models and terminals read all the same. Pure.

Before it: any text from outside. After it: what a model gets, what it said, and what the command prints.
"""

from __future__ import annotations

import unicodedata

_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters and marks by their category, yet blank: joiner, Hangul and Khmer fillers, the empty Braille cell."""


class _Table(dict[int, str | None]):
    """What becomes of each character, decided when it is first met."""

    def __missing__(self, code: int) -> str | None:
        self[code] = found = _seen(chr(code))
        return found


def _seen(character: str) -> str | None:
    if character in "\n\t":
        return character
    category = unicodedata.category(character)
    if category in ("Zl", "Zp"):
        return "\n"
    selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return None if category in ("Cc", "Cf", "Cs") or selector or character in _FILLERS else character


_TABLE = _Table()


def without_unseen(text: str) -> str:
    """The text without control, format (zero-width, bidi, tags), surrogate and blank filler characters.

    Line feeds and tabs stay; the separators U+2028 and U+2029 become line feeds.
    """
    return text.translate(_TABLE)
