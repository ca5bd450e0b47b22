"""Settings to embedder: each provider, each way to be wrong, and the guard against mixed models."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from runtime.embedding.contract import EmbeddingMisconfigured, ModelFingerprint
from runtime.embedding.select import configured_fingerprint, embedder_for, embedder_from
from tests.contract.embedder_cases import Options


def test_local_model_keeps_its_identity_between_releases() -> None:
    fingerprint = configured_fingerprint(Options())
    assert fingerprint == ModelFingerprint("local", "all-minilm-l6-v2", "fp32-53aa51172d142c89", 384, 256, True)
    # A changed key makes every index a stranger: raise it on purpose only, with a line in the changelog.
    assert fingerprint.key() == "all_minilm_l6_v2_b739a11f9c65"


@pytest.mark.parametrize(
    "change",
    [
        {"provider": "other"},
        {"model": "other"},
        {"revision": "int8"},
        {"dimension": 385},
        {"max_tokens": 128},
        {"normalised": False},
    ],
)
def test_every_field_is_part_of_the_key(change: dict[str, object]) -> None:
    fingerprint = configured_fingerprint(Options())
    assert replace(fingerprint, **change).key() != fingerprint.key()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "dimension", "max_tokens"),
    [
        (Options("cohere"), 1536, 128_000),
        (Options("cohere", model="embed-english-v3.0"), 1024, 512),
        (Options("cohere", model="embed-v4.0", dimension=256), 256, 128_000),
        (Options("openai"), 1536, 8191),
        (Options("openai", model="text-embedding-3-large"), 3072, 8191),
        (Options("openai", model="my-own", dimension=77), 77, 512),
    ],
)
def test_known_models_need_no_dimension(options: Options, dimension: int, max_tokens: int) -> None:
    fingerprint = configured_fingerprint(options)
    assert (fingerprint.dimension, fingerprint.max_tokens) == (dimension, max_tokens)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options("else"), "local, cohere or openai"),  # type: ignore[arg-type]
        (Options(model="bge"), "not a local model"),
        (Options(dimension=512), "has 384"),
        (Options("cohere", model="embed-english-v3.0", dimension=512), "has no 512"),
        (Options("openai", model="my-own"), "set embedding.dimension"),
        (Options("cohere"), "THALWEG_EMBEDDING__API_KEY"),
        (Options("openai"), "THALWEG_EMBEDDING__API_KEY"),
        (Options("cohere", api_key=SecretStr("two words")), "api_key holds a space"),
        (Options("openai", url="localhost:80", api_key=SecretStr("k")), "no HTTP address"),
        (Options("cohere", url="ftp://host", api_key=SecretStr("k")), "no HTTP address"),
        (Options(path=Path("/nowhere")), "thalweg setup"),
    ],
)
def test_wrong_settings_are_refused_with_the_way_out(options: Options, says: str) -> None:
    with pytest.raises(EmbeddingMisconfigured, match=says) as raised:
        embedder_from(options)
    assert "two words" not in str(raised.value)


def test_key_from_a_file_may_end_with_a_line_break() -> None:
    assert embedder_from(Options("openai", api_key=SecretStr("key\n"))).fingerprint.provider == "openai"


def test_embedder_of_the_live_generation_is_given_when_the_settings_agree() -> None:
    options = Options("openai", "http://127.0.0.1:1", "my-own", None, 77)
    record = {**configured_fingerprint(options).record(), "something else": "is ignored"}
    assert embedder_for(record, options).fingerprint == configured_fingerprint(options)


def test_other_model_than_the_live_generations_is_refused_naming_the_difference() -> None:
    live = configured_fingerprint(Options()).record()
    options = Options("openai", "http://127.0.0.1:1", "my-own", None, 384)
    with pytest.raises(EmbeddingMisconfigured) as raised:
        embedder_for(live, options)
    said = str(raised.value)
    assert "model 'all-minilm-l6-v2' there, 'my-own' here" in said
    assert "dimension" not in said.split(")", maxsplit=1)[0]
    assert "rebuild start" in said


@pytest.mark.parametrize("spoilt", [{"dimension": "384"}, {"dimension": True}, {"model": None}, {"normalised": 1}])
def test_record_that_is_no_fingerprint_is_refused(spoilt: dict[str, object]) -> None:
    record = {**configured_fingerprint(Options()).record(), **spoilt}
    with pytest.raises(EmbeddingMisconfigured, match=next(iter(spoilt))):
        embedder_for(record, Options())
