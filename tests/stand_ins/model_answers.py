"""What the stand-in model server says: deterministic vectors, scores and cited answers, no model needed.

Texts that share words get near vectors, so that searches over the stand-in find what they should.
"""

import hashlib
import json
import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt

NO_ANSWER = "The documents do not say."
_STOP = frozenset(
    re.findall(
        r"\w+",
        "a an and are as at be by do does for from how in is it of on or that the this to was what when "
        "where which who why with",
    )
)


def words_of(text: str) -> list[str]:
    """Lower-case words; all of them if only stop words are left."""
    found = re.findall(r"\w+", text.lower())
    return [word for word in found if word not in _STOP] or found


@lru_cache(maxsize=50_000)
def _direction(seed: str, dimension: int) -> npt.NDArray[np.float64]:
    digest = hashlib.sha256(seed.encode(errors="replace")).digest()
    rng = np.random.default_rng(np.frombuffer(digest, dtype=np.uint64))
    vector: npt.NDArray[np.float64] = rng.standard_normal(dimension)
    return vector / np.linalg.norm(vector)


def vector_of(text: str, dimension: int) -> list[float]:
    """Unit length; the sum of one random direction for each word, and a little of the text as a whole."""
    total = 0.1 * _direction("text:" + text, dimension)
    for word in words_of(text):
        total = total + _direction("word:" + word, dimension)
    return [float(value) for value in total / np.linalg.norm(total)]


def relevance(query: str, document: str) -> float:
    """The share of the query's words that the document has, in [0, 1]."""
    wanted = set(words_of(query))
    return round(len(wanted & set(words_of(document))) / max(len(wanted), 1), 6)


def best_sentence(query: str, document: str) -> str:
    """The sentence of `document` that shares most words with `query`; empty if none shares any."""
    sentences = [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", document) if part.strip()]
    best = max(sentences, key=lambda sentence: relevance(query, sentence), default="")
    return best if relevance(query, best) > 0 else ""


def cited_answer(query: str, documents: list[tuple[str, str]], most: int = 2) -> list[tuple[str, str]]:
    """Up to `most` pairs (sentence, document id), in the order of `documents`; empty if none is relevant."""
    pairs = [(best_sentence(query, text), identity) for identity, text in documents]
    return [(sentence, identity) for sentence, identity in pairs if sentence][:most]


def numbered_passages(prompt: str) -> list[tuple[str, str]]:
    """Passages in a prompt, as (n, text): lines of JSON with `document` and `text`, or stretches that start with `[n]`.

    That is how OpenAI-style prompts carry documents.
    """
    framed = []
    for line in prompt.split("\n"):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and {"document", "text"} <= found.keys():
            framed.append((str(found["document"]), str(found["text"])))
    if framed:
        return framed
    parts = re.split(r"^\s*\[(\d+)\]", prompt, flags=re.MULTILINE)
    return list(zip(parts[1::2], (text.strip() for text in parts[2::2]), strict=True))
