"""Our row of the table of calls, and the rules by which the peers' ways are counted over a history."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from tests.bench.peers import ask
from tests.bench.peers.operations import operations
from tests.bench.peers.ours import Table


def test_our_row_of_the_table_of_calls() -> None:
    """Texts embedded, chunks written, chunks retired, operation by operation."""
    expected = {
        "insert": (20, 20, 0),
        "edit one sentence": (1, 1, 1),
        "title only": (0, 0, 0),
        "same row again": (0, 0, 0),
        "second document, same text": (0, 20, 0),
        "paragraph on top": (1, 1, 0),
        "revert to the first text": (0, 1, 2),
        "access list": (0, 20, 20),
        "delete": (0, 0, 20),
        "re-add after delete": (0, 20, 0),
    }

    found = dict(zip([one.name for one in operations()], Table().row(), strict=True))

    assert found.keys() - expected.keys() == {"rebuild"}
    assert {name: tuple((found[name] or {}).values()) for name in expected} == expected


@pytest.mark.parametrize(
    ("rule", "costs"),
    [("whole", [2, 2, 2, 2]), ("whole_unless_the_same_list", [2, 2, 0, 0]),
     ("unless_in_the_version_before", [2, 1, 1, 2]), ("once", [2, 1, 0, 0])],
)  # fmt: skip
def test_what_each_rule_pays(rule: str, costs: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A text, an edit of its second piece, back to the first text, and a copy of it in another document."""
    monkeypatch.syspath_prepend(str(ask.HERE))
    pays = getattr(importlib.import_module("rules"), rule)()

    history = [("a", ["x", "y"]), ("a", ["x", "z"]), ("a", ["x", "y"]), ("b", ["x", "y"])]

    assert [len(pays(document, pieces)) for document, pieces in history] == costs
    assert pays("a", None) == []


def test_the_size_is_found_at_which_chunks_have_the_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only first releases are looked at; a mean that no size gives is refused."""
    monkeypatch.syspath_prepend(str(ask.HERE))
    tuned = importlib.import_module("wire").tuned
    history = tmp_path / "history.jsonl"
    steps = [
        {"project": "p", "opening": True, "documents": {"p/a": "x" * 10_000, "p/b": None}},
        {"project": "p", "opening": False, "documents": {"p/a": "yy " * 10}},
    ]
    history.write_text("".join(json.dumps(step) + "\n" for step in steps), encoding="utf-8")

    def split(_: str, text: str, size: int) -> list[str]:
        return [text[at : at + 2 * size] for at in range(0, len(text), 2 * size)]

    assert tuned(history, 500.0, split, 1000) == (250, 500.0)
    with pytest.raises(SystemExit):
        tuned(history, 500.0, lambda _, text, size: [text], 1000)


def test_the_locked_versions_are_those_that_the_table_names() -> None:
    """Each tool is pinned."""
    assert ask.versions() == {
        "cocoindex": "1.0.26",
        "langchain-core": "1.7.2",
        "langchain-classic": "1.0.8",
        "llama-index-core": "0.14.25",
        "pathway": "0.33.0",
    }
