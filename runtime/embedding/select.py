"""From settings to the embedder a process uses: the one they name, or the one that made a generation of the index.

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
from runtime.embedding.openai_compatible import openai_connection
from runtime.embedding.remote import Connection, RemoteEmbedder, measured_dimension
from runtime.settings import Embedding


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
    """The identity of the model that the settings name; loads nothing.

    Asks nobody either, except a server of one's own (`url`) whose dimension is not set: that one is asked
    about one word. Raises EmbeddingMisconfigured for an unknown provider, a model whose dimension is not
    known and not set, or a dimension that the model does not have; what asking raises, if it asks.
    """
    if settings.provider == "local":
        return _local(settings)
    return _remote(settings, _dimension(settings))


def embedder_from(settings: EmbeddingSettings, environ: Mapping[str, str] = os.environ) -> Embedder:
    """The embedder that the settings name; the local one is loaded here.

    Raises what `configured_fingerprint` does, and EmbeddingMisconfigured for a missing local model,
    library or key. `environ` says where the cache is.
    """
    return _embedder(configured_fingerprint(settings), settings, environ)


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
    if settings.provider != "local" and settings.url is not None and settings.dimension is None:
        # No need to ask the server: if it sends another dimension now, its first answer is refused.
        wanted = _remote(settings, live.dimension)
    else:
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
    return _embedder(live, settings, environ)


def embedder_of(
    fingerprint_record: Mapping[str, object], settings: Embedding, environ: Mapping[str, str] = os.environ
) -> Embedder:
    """The embedder that made a generation, whatever model the settings name: of those, only url, key and path count.

    An empty record is one of the settings' model. Raises EmbeddingMisconfigured as `embedder_for` and `settings_of` do.
    """
    if not fingerprint_record:
        return embedder_from(settings, environ)
    return embedder_for(fingerprint_record, settings_of(fingerprint_record, settings), environ)


def settings_of(fingerprint_record: Mapping[str, object], settings: Embedding) -> Embedding:
    """The settings with the provider and model of a generation's record in place of their own.

    Raises EmbeddingMisconfigured if the record is none, or its provider needs another URL and key than these are.
    """
    try:
        made = ModelFingerprint.from_record(fingerprint_record)
    except ValueError as error:
        raise EmbeddingMisconfigured(f"the generation does not say which model it is of: {error}") from error
    return with_model(settings, made.provider, made.model, None if made.provider == "local" else made.dimension)


def with_model(settings: Embedding, provider: str, model: str, dimension: int | None = None) -> Embedding:
    """The settings with another model; URL and key stay. Raises EmbeddingMisconfigured where they are another's."""
    if provider not in DEFAULT_MODEL:
        raise EmbeddingMisconfigured(f"no embedding provider {provider!r}: there are {', '.join(DEFAULT_MODEL)}")
    if "local" not in (provider, settings.provider) and provider != settings.provider:
        raise EmbeddingMisconfigured(
            f"{model} is a model of {provider}, but embedding.url and embedding.api_key are for {settings.provider}: "
            f"set embedding.provider to {provider}, with its URL and key"
        )
    return settings.model_copy(update={"provider": provider, "model": model, "dimension": dimension})


def _embedder(fingerprint: ModelFingerprint, settings: EmbeddingSettings, environ: Mapping[str, str]) -> Embedder:
    if settings.provider == "local":
        folder = locate(settings.path, environ)
        try:
            from runtime.embedding.local_model import LocalEmbedder
        except ImportError as error:
            raise _not_installed("local", error) from error
        return LocalEmbedder(folder, threads=settings.threads)
    facts = _facts(settings)
    # Named in requests only if it is one that the model has besides its own.
    asked_for = fingerprint.dimension if facts and fingerprint.dimension in facts.dimensions[1:] else None
    return RemoteEmbedder(fingerprint, _connection(settings, asked_for), batch_size=settings.batch_size)


def _connection(settings: EmbeddingSettings, dimension: int | None) -> Connection:
    key, model = _key(settings), _model(settings)
    if settings.provider == "openai":
        return openai_connection(
            model,
            url=settings.url,
            api_key=key,
            timeout_s=settings.timeout_s,
            dimensions=dimension,
            prefixes=prefixes_of(model),
        )
    try:
        from runtime.embedding.cohere_models import cohere_connection
    except ImportError as error:
        raise _not_installed("cohere", error) from error
    return cohere_connection(
        model, url=settings.url, api_key=key, timeout_s=settings.timeout_s, output_dimension=dimension
    )


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


def _remote(settings: EmbeddingSettings, dimension: int) -> ModelFingerprint:
    model, facts = _model(settings), _facts(settings)
    front = prefixes_of(model)
    words = front.document + front.query if settings.provider == "openai" else ""
    return ModelFingerprint(
        provider=settings.provider,
        model=model,
        revision="prefix-" + hashlib.sha256(words.encode()).hexdigest()[:8] if words else "",
        dimension=dimension,
        max_tokens=facts.max_tokens if facts else UNKNOWN_MAX_TOKENS,
        normalised=True,
    )


def _dimension(settings: EmbeddingSettings) -> int:
    """As set, else as the server says where it is one's own, else as the vendor publishes."""
    model, facts = _model(settings), _facts(settings)
    if settings.url is not None:
        if settings.dimension is not None:
            return settings.dimension
        connection = _connection(settings, None)
        try:
            return measured_dimension(connection, f"{settings.provider} model {model}")
        finally:
            connection.close()
    if facts is None:
        if settings.dimension is None:
            raise EmbeddingMisconfigured(
                f"the dimension of {settings.provider} model {model!r} is not known: set embedding.dimension"
            )
        return settings.dimension
    if settings.dimension not in (None, *facts.dimensions):
        raise EmbeddingMisconfigured(
            f"{model} has no {settings.dimension} dimensions: set embedding.dimension to one of "
            f"{', '.join(map(str, facts.dimensions))}"
        )
    return settings.dimension or facts.dimensions[0]


def _facts(settings: EmbeddingSettings) -> KnownModel | None:
    known = COHERE_MODELS if settings.provider == "cohere" else OPENAI_MODELS
    return known.get(_model(settings))


def _model(settings: EmbeddingSettings) -> str:
    if settings.provider not in DEFAULT_MODEL:
        raise EmbeddingMisconfigured(
            f"embedding.provider {settings.provider!r} is not known: set local, cohere or openai"
        )
    return settings.model or DEFAULT_MODEL[settings.provider]


def _key(settings: EmbeddingSettings) -> str | None:
    """The key as it goes into a header; a file's last line break is forgiven."""
    key = settings.api_key.get_secret_value().strip() if settings.api_key is not None else ""
    if not all("!" <= character <= "~" for character in key):
        # Said here without the key: the HTTP client would print it.
        raise EmbeddingMisconfigured("embedding.api_key holds a space, a line break or a character beyond ASCII")
    return key or None


def _not_installed(extra: str, error: ImportError) -> EmbeddingMisconfigured:
    return EmbeddingMisconfigured(
        f"embedding.provider is {extra!r}, but a library is missing ({error.name}): "
        f"install thalweg with its extra, pip install 'thalweg[{extra}]'"
    )
