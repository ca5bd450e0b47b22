"""Settings: where a value comes from, and that a mistake is refused with its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.settings import SettingsError, load_settings, load_with_origin, stack_state_file


def test_the_environment_beats_the_file_beats_the_stack_beats_the_default(tmp_path: Path) -> None:
    """And each value says where it came from."""
    state = stack_state_file(tmp_path)
    state.parent.mkdir()
    stack = {"kafka": {"bootstrap": "stack:1"}, "connect": {"url": "http://stack"}, "weaviate": {"url": "http://stack"}}
    state.write_text(json.dumps({"settings": stack}))
    (tmp_path / "thalweg.toml").write_text('[connect]\nurl = "http://file"\n[kafka]\nbootstrap = "file:1"\n')
    environment = {"THALWEG_HOME": str(tmp_path), "THALWEG_KAFKA__BOOTSTRAP": "env:1"}

    settings, origins = load_with_origin(environment, folder=tmp_path)

    assert settings.kafka.bootstrap == "env:1"
    assert settings.connect.url == "http://file"
    assert settings.weaviate.url == "http://stack"
    assert settings.upload.port == 8001
    assert origins["kafka.bootstrap"] == "environment"
    assert origins["connect.url"].endswith("thalweg.toml")
    assert "upload.port" not in origins


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("THALWEG_KAFKA__BOOTSTRP", "x", "THALWEG_KAFKA__BOOTSTRP: no such setting"),
        ("THALWEG_KAFKA", "x", "THALWEG_KAFKA: no such setting"),
        ("THALWEG_UPLOAD__PORT", "x", "upload.port (from environment)"),
        ("THALWEG_EMBEDDING__PROVIDER", "magic", "embedding.provider"),
        ("THALWEG_PRICES__MODELS", '{"m": {"input": -1}}', "prices.models"),
        ("THALWEG_PRICES__MODELS", "{", "prices.models"),
        ("THALWEG_WEAVIATE__API_KEY_FILE", "/no/such/file", "cannot read"),
    ],
)
def test_a_mistake_is_refused_with_its_name(tmp_path: Path, variable: str, value: str, says: str) -> None:
    """A misspelt variable is no silent default."""
    with pytest.raises(SettingsError) as caught:
        load_settings({"THALWEG_HOME": str(tmp_path), variable: value}, folder=tmp_path)
    assert says in str(caught.value)


def test_an_unknown_key_in_the_file_is_refused(tmp_path: Path) -> None:
    """As in the environment."""
    (tmp_path / "thalweg.toml").write_text("[kafka]\nbotstrap = 'x'\n")

    with pytest.raises(SettingsError, match=r"kafka\.botstrap"):
        load_settings({"THALWEG_HOME": str(tmp_path)}, folder=tmp_path)


def test_a_secret_is_read_from_its_file_and_never_shown(tmp_path: Path) -> None:
    """`..._FILE` holds the path; the value does not appear in a representation."""
    (tmp_path / "key").write_text("s3cret-value\n")
    environment = {"THALWEG_HOME": str(tmp_path), "THALWEG_WEAVIATE__API_KEY_FILE": str(tmp_path / "key")}

    settings = load_settings(environment, folder=tmp_path)

    assert settings.weaviate.api_key is not None
    assert settings.weaviate.api_key.get_secret_value() == "s3cret-value"
    assert "s3cret-value" not in repr(settings)


def test_prices_come_as_a_table_of_the_file_or_as_json_in_a_variable(tmp_path: Path) -> None:
    """The variable's table takes the place of the file's."""
    (tmp_path / "thalweg.toml").write_text('[prices.models."a"]\ninput = 1\noutput = 4.5\n')
    home = {"THALWEG_HOME": str(tmp_path)}

    filed = load_settings(home, folder=tmp_path).prices.models
    given = load_settings({**home, "THALWEG_PRICES__MODELS": '{"b": {"input": 2}}'}, folder=tmp_path).prices.models

    assert {name: (price.input, price.output) for name, price in filed.items()} == {"a": (1, 4.5)}
    assert {name: (price.input, price.output) for name, price in given.items()} == {"b": (2, 0)}
