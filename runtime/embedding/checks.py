"""Judges what a model answered before anyone may store it; after the vendors, before the callers."""

from collections.abc import Sequence

import numpy as np

from runtime.embedding.contract import (
    EmbeddingMisconfigured,
    EmbeddingRejected,
    EmbeddingReplyInvalid,
    Vectors,
)

# A shorter vector is noise around zero: its direction, which is all that search uses, means nothing.
SHORTEST_NORM = 1e-6


def checked_vectors(rows: object, *, count: int, dimension: int, source: str) -> Vectors:
    """`rows` as unit vectors, float32 [count, dimension]; `source` names the model in errors.

    Raises EmbeddingReplyInvalid (wrong count, not numbers, NaN, infinite, zero) or, for rows of
    another length than `dimension`, EmbeddingMisconfigured.
    """
    if not isinstance(rows, Sequence | np.ndarray):
        raise EmbeddingReplyInvalid(f"{source} sent no list of vectors")
    if len(rows) != count:
        raise EmbeddingReplyInvalid(f"{source} sent {len(rows)} vectors for {count} texts")
    if count == 0:
        return np.empty((0, dimension), dtype=np.float32)
    try:
        vectors = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EmbeddingReplyInvalid(f"{source} sent vectors of unequal length, or not of numbers") from error
    if vectors.ndim != 2:
        raise EmbeddingReplyInvalid(f"{source} sent vectors of unequal length, or not of numbers")
    if vectors.shape[1] != dimension:
        raise EmbeddingMisconfigured(
            f"{source} sends vectors of {vectors.shape[1]} dimensions, {dimension} are expected: set "
            f"embedding.dimension = {vectors.shape[1]} if this is the model you want, and rebuild the index"
        )
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    # A NaN or an infinity anywhere in a row is one in its norm, too.
    if not np.isfinite(norms).all() or (norms < SHORTEST_NORM).any():
        raise EmbeddingReplyInvalid(f"{source} sent a vector with NaN or infinite values, or of length zero")
    unit: Vectors = (vectors / norms).astype(np.float32)
    return unit


def refuse_unencodable(texts: Sequence[str]) -> None:
    """Raises EmbeddingRejected for texts with lone surrogates: no tokenizer and no wire can carry them."""
    positions = [i for i, text in enumerate(texts) if not _encodable(text)]
    if positions:
        raise EmbeddingRejected("the text holds characters that are not valid Unicode", positions)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
