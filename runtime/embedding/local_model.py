"""The local default: all-MiniLM-L6-v2 in fp32 on onnxruntime, no key and no network.

Before it: `local_build` at set-up. After it: indexing and asking. A text's vector is the same bits
whatever batch, order or thread count it came in, because padding never reaches the pooling and fp32
operators do not look across rows; reuse of vectors by text hash rests on that.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from tokenizers import Tokenizer

from runtime.embedding.checks import checked_vectors, refuse_unencodable
from runtime.embedding.contract import EmbedResult, ModelFingerprint
from runtime.embedding.local_files import (
    DIMENSION,
    GRAPH_FILE,
    MAX_TOKENS,
    TOKENIZER_FILE,
    local_fingerprint,
    verify,
)

# One run of the model takes so many texts, or so many tokens with padding, whichever comes first: more
# is no faster and costs memory (8 texts of 190 tokens: 190 MB for the process, 32 of them: 350).
MICRO_BATCH = 32
MICRO_BATCH_TOKENS = 1536
# Characters looked at: far beyond 256 tokens of any text, and a bound on what one text can cost.
LONGEST_LOOK = 65_536


class LocalEmbedder:
    """Implements `Embedder`; keep one for the life of a process (loading takes some tenths of a second)."""

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        """Load the model in `folder` (from `local_files.locate`); `threads` is what one call may use.

        Raises EmbeddingMisconfigured if the files are not those that were built.
        """
        verify(folder)
        options = ort.SessionOptions()
        # Explicit, or the runtime takes all cores and fights the workers beside it.
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = ort.InferenceSession(str(folder / GRAPH_FILE), options, providers=["CPUExecutionProvider"])
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        # The published file pads and cuts at 128: every text would cost 128 tokens, longer ones be lost.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._fingerprint = local_fingerprint()

    @property
    def fingerprint(self) -> ModelFingerprint:
        """See `Embedder`."""
        return self._fingerprint

    def embed_documents(self, texts: Sequence[str]) -> EmbedResult:
        """See `Embedder`; an empty text has a vector, too (that of the two special tokens)."""
        refuse_unencodable(texts)
        encoded = [self._ids(text) for text in texts]
        rows = np.empty((len(texts), DIMENSION), dtype=np.float32)
        calls = 0
        for batch in _by_length(encoded):
            rows[batch] = self._pooled([encoded[i] for i in batch])
            calls += 1
        vectors = checked_vectors(rows, count=len(texts), dimension=DIMENSION, source="the local model")
        return EmbedResult(vectors, tokens=sum(map(len, encoded)), calls=calls)

    def embed_query(self, text: str) -> EmbedResult:
        """See `Embedder`; this model treats questions and documents alike."""
        return self.embed_documents([text])

    def count_tokens(self, text: str) -> int:
        """See `Embedder`; exact."""
        refuse_unencodable([text])
        return len(self._tokenizer.encode(text).ids)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text[:LONGEST_LOOK]).ids
        # As the tokenizer itself cuts: the closing special token stays.
        return ids if len(ids) <= MAX_TOKENS else [*ids[: MAX_TOKENS - 1], ids[-1]]

    def _pooled(self, batch: Sequence[list[int]]) -> npt.NDArray[np.float32]:
        """Mean of each text's own token states; float32 [texts, dimension]."""
        shape = (len(batch), max(map(len, batch)))
        ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        (hidden,) = self._session.run(["hidden"], {"ids": ids, "mask": mask})
        # One text at a time over its real tokens: a sum over the padded axis would round by batch shape.
        return np.stack([hidden[row, : len(tokens)].mean(axis=0) for row, tokens in enumerate(batch)])


def _by_length(encoded: Sequence[list[int]]) -> Iterator[list[int]]:
    """Positions in groups of neighbouring length, so that little is padding (1.5 times the speed)."""
    batch: list[int] = []
    for position in sorted(range(len(encoded)), key=lambda i: len(encoded[i])):
        # Sorted, so that the newcomer is the longest and sets the padded width of all.
        padded = (len(batch) + 1) * len(encoded[position])
        if batch and (len(batch) == MICRO_BATCH or padded > MICRO_BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch
