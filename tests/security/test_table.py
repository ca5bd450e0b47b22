"""The table in README.md is true: thirty attacks, each held off by tests that exist, or with a reason why not."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(
    r"^\| (\d+) \| (.+?) \| (.+) \|$", Path(__file__).with_name("README.md").read_text(encoding="utf-8"), re.MULTILINE
)


def test_every_attack_has_a_row() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, 31))


@pytest.mark.parametrize(("number", "attack", "by"), ROWS, ids=lambda value: value[:30])
def test_every_row_names_tests_that_exist(number: str, attack: str, by: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", by)

    assert named, f"{number} {attack}: no test"
    assert by.count("::") == len(named), "a name that cannot be read"
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in functions, f"{file} has no {name}"
