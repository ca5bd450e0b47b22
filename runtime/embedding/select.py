"""From settings to the one embedder a process uses; refuses a model that the live index was not built with.

Before it: settings, and the description of the live generation. After it: indexing and asking. Each
provider's libraries are loaded only if it is the one chosen.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from pydantic import SecretStr

from runtime.embedding.contract import Embedder, EmbeddingMisconfigured, ModelFingerprint
from runtime.embedding.known_models import (
    COHERE_MODELS,
    DEFAULT_MODEL,
    OPENAI_MODELS,
    UNKNOWN_MAX_TOKENS,
    KnownModel,
    prefixes_of,
)
from runtime.embedding.local_files import local_fingerprint, locate
from runtime.embedding.openai_compatible import openai_embedder


class EmbeddingSettings(Protocol):
    """The group `embedding` of the settings, as far as this package reads it."""

    @property
    def provider(self) -> Literal["local", "cohere", "openai"]: ...
    @property
    def url(self) -> str | None: ...
    @property
    def model(self) -> str | None: ...
    @property
    def api_key(self) -> SecretStr | None: ...
    @property
    def dimension(self) -> int | None: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def timeout_s(self) -> float: ...
    @property
    def path(self) -> Path | None: ...


def configured_fingerprint(settings: EmbeddingSettings) -> ModelFingerprint:
    """The identity of the model that the settings name; loads nothing, asks nobody.

    Raises EmbeddingMisconfigured for an unknown provider, a model whose dimension is not known and not
    set, or a dimension that the model does not have.
    """
    match settings.provider:
        case "local":
            return _local(settings)
        case "cohere":
            return _remote(settings, COHERE_MODELS, "")
        case "openai":
            front = prefixes_of(_model(settings))
            words = front.document + front.query
            revision = "prefix-" + hashlib.sha256(words.encode()).hexdigest()[:8] if words else ""
            return _remote(settings, OPENAI_MODELS, revision)
    raise EmbeddingMisconfigured(f"embedding.provider {settings.provider!r} is not known: set local, cohere or openai")


def embedder_from(settings: EmbeddingSettings, environ: Mapping[str, str] = os.environ) -> Embedder:
    """The embedder that the settings name; the local one is loaded here, remote ones are not yet asked.

    Raises EmbeddingMisconfigured as `configured_fingerprint` does, and for a missing local model, library
    or key. `environ` says where the cache is.
    """
    fingerprint = configured_fingerprint(settings)
    key = _key(settings)
    if settings.provider == "local":
        folder = locate(settings.path, environ)
        try:
            from runtime.embedding.local_model import LocalEmbedder
        except ImportError as error:
            raise _not_installed("local", error) from error
        return LocalEmbedder(folder, threads=settings.threads)
    if settings.provider == "cohere":
        try:
            from runtime.embedding.cohere_models import cohere_embedder
        except ImportError as error:
            raise _not_installed("cohere", error) from error
        return cohere_embedder(
            fingerprint,
            url=settings.url,
            api_key=key,
            batch_size=settings.batch_size,
            timeout_s=settings.timeout_s,
            output_dimension=_to_ask_for(fingerprint, COHERE_MODELS),
        )
    return openai_embedder(
        fingerprint,
        url=settings.url,
        api_key=key,
        batch_size=settings.batch_size,
        timeout_s=settings.timeout_s,
        dimensions=_to_ask_for(fingerprint, OPENAI_MODELS),
        prefixes=prefixes_of(fingerprint.model),
    )


def embedder_for(
    fingerprint_record: Mapping[str, object],
    settings: EmbeddingSettings,
    environ: Mapping[str, str] = os.environ,
) -> Embedder:
    """The embedder of the live generation, whose `ModelFingerprint.record` is passed in.

    Raises EmbeddingMisconfigured, naming each difference, if the settings name another model: vectors of
    two models do not compare.
    """
    try:
        live = ModelFingerprint.from_record(fingerprint_record)
    except ValueError as error:
        raise EmbeddingMisconfigured(f"the live generation does not say which model it is of: {error}") from error
    wanted = configured_fingerprint(settings)
    if wanted != live:
        ours, theirs = wanted.record(), live.record()
        differing = ", ".join(
            f"{name} {theirs[name]!r} there, {ours[name]!r} here" for name in ours if ours[name] != theirs[name]
        )
        raise EmbeddingMisconfigured(
            f"the live generation was built with another embedding model ({differing}): set embedding.provider, "
            "embedding.model and embedding.dimension to the live one's, or build a generation with this model "
            "(`thalweg rebuild start`) and promote it"
        )
    return embedder_from(settings, environ)


def _key(settings: EmbeddingSettings) -> str | None:
    """The key as it goes into a header; a file's last line break is forgiven."""
    key = settings.api_key.get_secret_value().strip() if settings.api_key is not None else ""
    if not all("!" <= character <= "~" for character in key):
        # Said here without the key: the HTTP client would print it.
        raise EmbeddingMisconfigured("embedding.api_key holds a space, a line break or a character beyond ASCII")
    return key or None


def _model(settings: EmbeddingSettings) -> str:
    return settings.model or DEFAULT_MODEL[settings.provider]


def _local(settings: EmbeddingSettings) -> ModelFingerprint:
    fingerprint = local_fingerprint()
    if _model(settings) != fingerprint.model:
        raise EmbeddingMisconfigured(
            f"embedding.model {settings.model!r} is not a local model: only {fingerprint.model} is (or set "
            "embedding.provider to cohere or openai)"
        )
    if settings.dimension not in (None, fingerprint.dimension):
        raise EmbeddingMisconfigured(
            f"embedding.dimension is {settings.dimension}, but {fingerprint.model} has {fingerprint.dimension}"
        )
    return fingerprint


def _remote(settings: EmbeddingSettings, known: Mapping[str, KnownModel], revision: str) -> ModelFingerprint:
    model = _model(settings)
    facts = known.get(model)
    if facts is None and settings.dimension is None:
        raise EmbeddingMisconfigured(
            f"the dimension of {settings.provider} model {model!r} is not known: set embedding.dimension"
        )
    if facts is not None and settings.dimension not in (None, *facts.dimensions):
        raise EmbeddingMisconfigured(
            f"{model} has no {settings.dimension} dimensions: set embedding.dimension to one of "
            f"{', '.join(map(str, facts.dimensions))}"
        )
    dimension = settings.dimension or (facts.dimensions[0] if facts else 0)
    return ModelFingerprint(
        provider=settings.provider,
        model=model,
        revision=revision,
        dimension=dimension,
        max_tokens=facts.max_tokens if facts else UNKNOWN_MAX_TOKENS,
        normalised=True,
    )


def _to_ask_for(fingerprint: ModelFingerprint, known: Mapping[str, KnownModel]) -> int | None:
    """The dimension to name in requests: only one that the model has besides its own."""
    facts = known.get(fingerprint.model)
    return fingerprint.dimension if facts and fingerprint.dimension != facts.dimensions[0] else None


def _not_installed(extra: str, error: ImportError) -> EmbeddingMisconfigured:
    return EmbeddingMisconfigured(
        f"embedding.provider is {extra!r}, but a library is missing ({error.name}): "
        f"install thalweg with its extra, pip install 'thalweg[{extra}]'"
    )
