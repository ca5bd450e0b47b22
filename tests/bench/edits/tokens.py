"""Tokens of texts, by the local model's tokenizer.

Before: the texts that a way embeds. After: `measure.py` adds them up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from runtime.embedding.local_files import TOKENIZER_FILE


class Tokens:
    """Counts tokens, the model's two marks around a text included and nothing cut off; each text is counted once."""

    def __init__(self, model: Path) -> None:
        """model: the folder of the local model."""
        self._tokenizer = Tokenizer.from_file(str(model / TOKENIZER_FILE))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._known: dict[bytes, int] = {}

    def count(self, texts: Sequence[str]) -> int:
        """Tokens of all of them."""
        named = [(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest(), text) for text in texts]
        new = {name: text for name, text in named if name not in self._known}
        counted = self._tokenizer.encode_batch_fast(list(new.values())) if new else []
        self._known |= {name: len(one.ids) for name, one in zip(new, counted, strict=True)}
        return sum(self._known[name] for name, _ in named)
