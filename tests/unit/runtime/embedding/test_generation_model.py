"""The model that made a generation is used whatever the settings name; URL and key are the settings'."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from runtime.embedding.contract import EmbeddingMisconfigured, ModelFingerprint
from runtime.embedding.select import configured_fingerprint, embedder_of, settings_of
from runtime.settings import Embedding
from streams.generations import wanted_generation
from streams.rebuilding.commands import chosen_model
from tests.stand_ins.model_server import ModelServer

DIMENSION = 48


def on(server: ModelServer, model: str) -> Embedding:
    return Embedding(provider="openai", url=server.openai_url, model=model, api_key=SecretStr("k"), dimension=DIMENSION)


def test_each_generation_is_embedded_with_its_own_model_of_one_server() -> None:
    with ModelServer(DIMENSION) as server:
        one = wanted_generation(on(server, "one"))
        two = wanted_generation(chosen_model("two", on(server, "one")))
        assert one.model != two.model
        assert one.name != two.name

        # The settings name the second; the first is still asked for with its own.
        for generation, name in ((one, "one"), (two, "two"), (one, "one")):
            embedder = embedder_of(generation.embedding, on(server, "two"))
            embedder.embed_query("which birds eat fish")
            assert embedder.fingerprint.key() == generation.model
            assert server.state.calls[-1].body["model"] == name


def test_the_local_model_and_one_of_a_vendor_stand_side_by_side() -> None:
    settings = Embedding(provider="cohere", api_key=SecretStr("k"), dimension=256)
    local = wanted_generation(Embedding())

    assert settings_of(local.embedding, settings).provider == "local"
    assert configured_fingerprint(settings_of(local.embedding, settings)).key() == local.model
    back = settings_of(wanted_generation(settings).embedding, Embedding(api_key=SecretStr("k")))
    assert (back.provider, back.model, back.dimension) == ("cohere", "embed-v4.0", 256)
    assert configured_fingerprint(settings_of(wanted_generation(settings).embedding, Embedding(provider="cohere")))


def test_a_model_of_another_vendor_than_url_and_key_are_for_is_refused() -> None:
    record = ModelFingerprint("cohere", "embed-v4.0", "", 1536, 128_000, True).record()

    with pytest.raises(EmbeddingMisconfigured, match=r"set embedding\.provider to cohere"):
        settings_of(record, Embedding(provider="openai"))
    with pytest.raises(EmbeddingMisconfigured, match="does not say which model"):
        settings_of({"model": 1}, Embedding())


@pytest.mark.parametrize(
    ("text", "provider", "model"),
    [
        (None, "openai", "mine"),
        ("mine", "openai", "mine"),
        ("other", "openai", "other"),
        ("nomic-embed-text:latest", "openai", "nomic-embed-text:latest"),
        ("openai:bge:small", "openai", "bge:small"),
        ("local:all-minilm-l6-v2", "local", "all-minilm-l6-v2"),
    ],
)
def test_a_model_is_named_with_or_without_its_provider(text: str | None, provider: str, model: str) -> None:
    chosen = chosen_model(text, Embedding(provider="openai", model="mine", dimension=7))

    assert (chosen.provider, chosen.model) == (provider, model)
    assert chosen.dimension == (7 if model == "mine" else None)
