"""An independent forward pass of BERT in float64 numpy, one text at a time: what the graph is measured by."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Weights = Mapping[str, npt.NDArray[np.float64]]
Array = npt.NDArray[np.float64]
LAYERS, HEADS = 6, 12
_erf = np.vectorize(math.erf)


def hidden_states(weights: Weights, ids: Sequence[int]) -> Array:
    """[tokens, width]; `weights` by the names of the published file, linear ones as [out, in]."""
    x = (
        weights["embeddings.word_embeddings.weight"][list(ids)]
        + weights["embeddings.position_embeddings.weight"][: len(ids)]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    x = _norm(weights, "embeddings.LayerNorm", x)
    for number in range(LAYERS):
        name = f"encoder.layer.{number}"
        query, key, value = (
            np.stack(np.split(_linear(weights, f"{name}.attention.self.{part}", x), HEADS, axis=1))
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        share = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = np.concatenate(list(share / share.sum(axis=-1, keepdims=True) @ value), axis=1)
        x = _norm(
            weights,
            f"{name}.attention.output.LayerNorm",
            x + _linear(weights, f"{name}.attention.output.dense", mixed),
        )
        wide = _linear(weights, f"{name}.intermediate.dense", x)
        wide = wide * 0.5 * (1 + _erf(wide / math.sqrt(2)))
        x = _norm(weights, f"{name}.output.LayerNorm", x + _linear(weights, f"{name}.output.dense", wide))
    return x


def sentence_vector(weights: Weights, ids: Sequence[int]) -> Array:
    """Mean over all tokens, unit length."""
    mean = hidden_states(weights, ids).mean(axis=0)
    unit: Array = mean / np.linalg.norm(mean)
    return unit


def _linear(weights: Weights, name: str, x: Array) -> Array:
    result: Array = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return result


def _norm(weights: Weights, name: str, x: Array) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
    result: Array = scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return result
