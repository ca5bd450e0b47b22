"""What every model behind a network has in common: batches, refused texts, the table of errors.

Before it: `cohere_models` and `openai_compatible`, which know one protocol each and hand in a function
that asks once. After it: indexing and asking. Nothing here retries in time: the caller owns the clock.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import numpy as np

from runtime.embedding.checks import checked_vectors, refuse_unencodable
from runtime.embedding.contract import (
    EmbeddingError,
    EmbeddingMisconfigured,
    EmbeddingRejected,
    EmbeddingReplyInvalid,
    EmbeddingUnavailable,
    EmbedResult,
    ModelFingerprint,
    Role,
    Vectors,
)

# A text that no model refuses: tells a refused text from a refused request.
PROBE = "probe"
LONGEST_RETRY_AFTER = 3600.0  # seconds; a server that asks for more is asked again after this
LONGEST_EXCERPT = 200  # characters of a server's own words in an error


@dataclass(frozen=True)
class Reply:
    """One answer as it came: rows in the order of the texts, unchecked, and the tokens it bills if said."""

    rows: object
    tokens: int | None


# Asks once about so many texts; raises EmbeddingErrors only.
Ask = Callable[[Sequence[str], Role], Reply]


@dataclass(frozen=True)
class Connection:
    """A server that embeds: how to ask it once, how to let it go, and the most texts it takes at once."""

    ask: Ask
    close: Callable[[], None]
    most_texts: int


def measured_dimension(connection: Connection, source: str) -> int:
    """How long the server's vectors are, by asking it about one word. Raises EmbeddingErrors."""
    try:
        rows = connection.ask([PROBE], "document").rows
    except EmbeddingRejected as refusal:
        raise EmbeddingMisconfigured(f"{source} refuses every text, so it is the settings: {refusal}") from refusal
    if not isinstance(rows, Sequence) or len(rows) != 1 or not isinstance(rows[0], Sequence) or not rows[0]:
        raise EmbeddingReplyInvalid(f"{source} sent no vector for one text")
    return len(rows[0])


class RemoteEmbedder:
    """Implements `Embedder` over a connection."""

    def __init__(self, fingerprint: ModelFingerprint, connection: Connection, *, batch_size: int) -> None:
        """`batch_size`: texts in one call, as far as the server takes so many."""
        self._fingerprint = fingerprint
        self._ask = connection.ask
        self._batch_size = min(batch_size, connection.most_texts)
        self._close = connection.close
        self._source = f"{fingerprint.provider} model {fingerprint.model}"

    @property
    def fingerprint(self) -> ModelFingerprint:
        """See `Embedder`."""
        return self._fingerprint

    def embed_documents(self, texts: Sequence[str]) -> EmbedResult:
        """See `Embedder`."""
        return self._embed(texts, "document")

    def embed_query(self, text: str) -> EmbedResult:
        """See `Embedder`."""
        return self._embed([text], "query")

    def count_tokens(self, text: str) -> int:
        """See `Embedder`; an estimate from bytes and words, on the high side for ordinary prose."""
        return estimated_tokens(text)

    def close(self) -> None:
        """Give the connections back."""
        self._close()

    def _embed(self, texts: Sequence[str], role: Role) -> EmbedResult:
        refuse_unencodable(texts)
        blank = [i for i, text in enumerate(texts) if not text.strip()]
        if blank:
            raise EmbeddingRejected(f"{self._source} is not asked about texts without a word", blank)
        done = _Collected(np.empty((len(texts), self._fingerprint.dimension), dtype=np.float32))
        for start in range(0, len(texts), self._batch_size):
            positions = range(start, min(start + self._batch_size, len(texts)))
            self._embed_batch(texts, positions, role, done)
        if done.rejected:
            raise EmbeddingRejected(done.reason, sorted(done.rejected))
        return EmbedResult(done.vectors, done.tokens, done.calls)

    def _embed_batch(self, texts: Sequence[str], positions: range, role: Role, done: "_Collected") -> None:
        """Fill in the rows at `positions`; where the server refuses, halve down to the texts it means."""
        batch = [texts[i] for i in positions]
        done.calls += 1
        try:
            reply, rows = self._answered(batch, role)
        except EmbeddingReplyInvalid as invalid:
            done.calls += 1
            self._probe_answers(role, invalid)
            raise
        except EmbeddingRejected as refusal:
            if not done.probed:
                done.probed = True
                done.calls += 1
                self._probe(role, refusal)
            if len(positions) == 1:
                done.rejected.append(positions[0])
                done.reason = str(refusal)
                return
            middle = len(positions) // 2
            self._embed_batch(texts, positions[:middle], role, done)
            self._embed_batch(texts, positions[middle:], role, done)
            return
        done.vectors[positions.start : positions.stop] = rows
        done.tokens += sum(map(estimated_tokens, batch)) if reply.tokens is None else reply.tokens

    def _answered(self, batch: Sequence[str], role: Role) -> tuple[Reply, Vectors]:
        reply = self._ask(batch, role)
        dimension = self._fingerprint.dimension
        return reply, checked_vectors(reply.rows, count=len(batch), dimension=dimension, source=self._source)

    def _probe_answers(self, role: Role, invalid: EmbeddingReplyInvalid) -> None:
        """A server whose answer to a harmless text is nonsense, too, is broken itself: no document is to blame.

        A proxy's page of HTML for a minute must not send a document to the dead letters.
        """
        try:
            self._answered([PROBE], role)
        except (EmbeddingReplyInvalid, EmbeddingRejected):
            raise EmbeddingUnavailable(f"{invalid}, and no better one for a harmless text") from invalid

    def _probe(self, role: Role, refusal: EmbeddingRejected) -> None:
        """A server that refuses a harmless text, too, refuses the request: no document is to blame."""
        try:
            self._ask([PROBE], role)
        except EmbeddingRejected:
            raise EmbeddingMisconfigured(
                f"{self._source} refuses every text, so it is the settings (model, dimension): {refusal}"
            ) from refusal


class _Collected:
    """The state of one call, filled batch by batch."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors
        self.tokens = 0
        self.calls = 0
        self.rejected: list[int] = []
        self.reason = ""
        self.probed = False


def estimated_tokens(text: str) -> int:
    """Tokens of a text whose tokenizer is not at hand: three bytes each, or one a word, plus two."""
    return max(math.ceil(len(text.encode(errors="replace")) / 3), len(text.split())) + 2


def error_for_status(
    status: int,
    headers: Mapping[str, str],
    said: str,
    *,
    source: str,
    texts: Sequence[str],
    secret: str | None,
    now: Callable[[], float],
) -> EmbeddingError:
    """Our error for an HTTP status that is not success; `said` is the server's own message.

    `texts` and `secret` are what must not appear in the error; `now` in Unix seconds, for a Retry-After
    that is a date.
    """
    for hidden in (secret, *texts):
        if hidden:
            said = said.replace(hidden, "…")
    words = f"{source} answered {status}" + (f": {said[:LONGEST_EXCERPT]}" if said else "")
    match status:
        case 400 | 413 | 422:
            return EmbeddingRejected(words, range(len(texts)))
        case 401 | 403:
            return EmbeddingMisconfigured(f"{words} (check embedding.api_key)")
        case 404:
            return EmbeddingMisconfigured(f"{words} (check embedding.model and embedding.url)")
        case 408 | 409 | 425 | 429 | 499:
            return EmbeddingUnavailable(words, retry_after(headers, now))
        case _ if status >= 500 and status != 501:
            return EmbeddingUnavailable(words, retry_after(headers, now))
        case _:
            return EmbeddingMisconfigured(f"{words} (check embedding.url)")


def retry_after(headers: Mapping[str, str], now: Callable[[], float]) -> float | None:
    """Seconds a server asks us to wait (RFC 9110, 10.2.3: seconds or a date); None if it does not say."""
    value = next((held for name, held in headers.items() if name.lower() == "retry-after"), "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - now()
        except ValueError:
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if math.isfinite(seconds) else None
