"""House rules that a linter does not know, each with a proof that it can fail."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "runtime", "connectors", "streams", "query_api", "deploy", "thalweg")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BANNED = {"utils", "helpers", "common", "base", "manager", "misc"}


def test_there_are_modules_to_check() -> None:
    """A check that found nothing would pass."""
    assert len(MODULES) > 50


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_is_short_and_says_what_it_is(path: Path) -> None:
    """At most 400 lines; a docstring first (an empty package file needs none); no name that says nothing."""
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 400
    assert path.stem not in BANNED
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "the first line says what the module is"


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    return subprocess.run(
        [*command, "--no-logo", "--no-cache"], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("streams/core/identity.py", "import weaviate"),
        ("query_api/retrieval/filters.py", "import streams.core.chunking"),
        ("connectors/plan.py", "import query_api.retrieval.filters"),
        ("schemas/records.py", "import runtime.settings"),
        ("query_api/retrieval/filters.py", "import faust"),
        ("streams/steps/commit.py", "import weaviate"),
    ],
)
def test_a_planted_violation_of_the_import_rules_is_caught(tmp_path: Path, file: str, line: str) -> None:
    """The rules hold as the tree is (make check), and each of these breaks one."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a", encoding="utf-8") as target:
        target.write(f"\n{line}\n")

    result = _lint_imports(tmp_path)

    assert result.returncode == 1, result.stdout + result.stderr
    assert "BROKEN" in result.stdout


def test_nothing_opens_or_reads_at_import() -> None:
    """Importing every module starts no thread, opens no socket and reads no THALWEG_ variable."""
    names = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in MODULES
        if path.stem not in ("__main__", "__init__") and "en_core_web_sm" not in path.parts
    )
    program = f"""
import importlib, os, socket, sys, threading
def refuse(*args, **kwargs): raise AssertionError("a socket at import")
socket.socket.connect = refuse
os.environ["THALWEG_NO_SUCH_SETTING"] = "x"
for name in {names!r}:
    importlib.import_module(name)
assert threading.active_count() == 1, threading.enumerate()
print("imported", len({names!r}))
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr[-2000:]
    assert "imported" in result.stdout


def test_packages_are_all_listed() -> None:
    """The distribution holds every package, and no test."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in MODULES if (path.parent / "__init__.py").exists()
    }

    assert set(listed) == found


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_links_in_the_documents_lead_somewhere(name: str) -> None:
    """Every relative link names a file of the tree."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / name).read_text(encoding="utf-8"))

    missing = [link for link in links if not (ROOT / link).exists()]

    assert missing == []


def test_the_files_named_in_architecture_exist() -> None:
    """`streams/...` and the like in backticks are files or folders."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:schemas|runtime|connectors|streams|query_api|deploy|tests)/[\w./]+)`", text))

    assert len(names) > 8
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []
