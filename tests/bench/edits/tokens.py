"""Tokens of texts, by the local model's tokenizer.

Before: the texts that a way embeds. After: `measure.py` adds them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from runtime.embedding.local_files import TOKENIZER_FILE

MARKS = 2
"""Special tokens around a text."""


class Tokens:
    """Counts tokens, the model's two marks around a text included and nothing cut off.

    Word by word, each word once: this tokenizer never looks across white space, and a history says most things often.
    """

    def __init__(self, model: Path) -> None:
        """model: the folder of the local model."""
        self._tokenizer = Tokenizer.from_file(str(model / TOKENIZER_FILE))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._known: dict[str, int] = {}

    def count(self, texts: Sequence[str]) -> int:
        """Tokens of all of them."""
        return sum(MARKS + sum(map(self._word, text.split())) for text in texts)

    def _word(self, word: str) -> int:
        found = self._known.get(word)
        if found is None:
            found = self._known[word] = len(self._tokenizer.encode(word, add_special_tokens=False).ids)
        return found
