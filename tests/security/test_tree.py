"""What the code may never do, looked for in its syntax: load code with data, run a shell, skip a certificate."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from runtime.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "runtime", "connectors", "streams", "query_api", "deploy", "thalweg")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

_IMPORTS = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "torch", "pty", "telnetlib"}
_CALLS = {
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "tempfile.mktemp", "ssl._create_unverified_context", "torch.load", "numpy.load"),
}
_ARGUMENTS = {("shell", True), ("verify", False), ("allow_pickle", True), ("check_hostname", False), ("debug", True)}
_SECRET = ("key", "secret", "password", "token", "dsn", "salt")
_NO_SECRET = ("_file", "_path", "_url", "_s", "_required", "_per_minute", "_claim", "_claims", "_ms", "_days", "tokens")


def findings(source: str) -> Iterator[str]:
    """What of it is in this source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in _IMPORTS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in _IMPORTS:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            if (name := ast.unparse(node.func).replace("np.", "numpy.")) in _CALLS:
                yield name
            for argument in node.keywords:
                value = argument.value
                if isinstance(value, ast.Constant) and (argument.arg, value.value) in _ARGUMENTS:
                    yield f"{argument.arg}={value.value}"


def test_there_is_a_tree_to_look_at() -> None:
    assert len(MODULES) > 150


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "from torch import load",
        "def f(x):\n    import marshal",
        "yaml.load(text)",
        "np.load(file)",
        "subprocess.run(line, shell=True)",
        "httpx.get(url, verify=False)",
        "eval(text)",
        "numpy.frombuffer(b, allow_pickle=True)",
    ],
)
def test_each_of_these_would_be_found(planted: str) -> None:
    assert list(findings(planted))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_loads_code_with_data_runs_a_shell_or_skips_certificates(path: Path) -> None:
    """Vectors are float32 bytes, records are Avro, settings TOML, sources `yaml.safe_load`; models are ONNX."""
    allowed = {"np.load"} if path.name == "local_build.py" else set()

    assert set(findings(path.read_text(encoding="utf-8"))) <= allowed


def test_faust_decodes_nothing_and_serves_nothing() -> None:
    runner = (ROOT / "streams/adapters/runner.py").read_text(encoding="utf-8")

    assert 'key_serializer="raw", value_serializer="raw"' in runner
    assert "web_enabled=False" in runner
    assert "json" not in {
        keyword.value.value
        for node in ast.walk(ast.parse(runner))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if (keyword.arg or "").endswith("serializer") and isinstance(keyword.value, ast.Constant)
    }


def test_every_setting_that_holds_a_secret_is_typed_as_one_and_has_no_default() -> None:
    """A SecretStr is printed nowhere: neither by `config show` nor in an error."""
    found = []
    for section, field in Settings.model_fields.items():
        for name, inner in getattr(field.annotation, "model_fields", {}).items():
            words = name.split("_")
            if not any(word in words for word in _SECRET) or name.endswith(_NO_SECRET):
                continue
            if inner.annotation in (bool, int, float):
                continue
            found.append(f"{section}.{name}")
            assert SecretStr in (inner.annotation, *getattr(inner.annotation, "__args__", ())), f"{section}.{name}"
            assert inner.default is None, f"{section}.{name}"
    assert len(found) > 3
