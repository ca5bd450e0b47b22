"""What each tool embeds again, as rules over its own splitter's pieces: a whole history in minutes, not hours.

Before: a script's `split`. After: `wire.py` writes what was embedded. The rules are what the engines themselves do:
`python -m tests.bench edits --engines PROJECT` runs the engines over the same releases, and the counts are the same.
Runs in the peers' environment, standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wire import Record, Way, steps

Rule = Callable[[str, list[str] | None], list[str]]
"""Of a document and its pieces (None: it is gone), those that are embedded now."""


def whole() -> Rule:
    """Every piece of each document that changed."""
    return lambda _, pieces: pieces or []


def whole_unless_the_same_list() -> Rule:
    """Every piece of each document that changed, but not if the very same list of pieces was seen before."""
    seen: set[tuple[str, ...]] = set()

    def rule(_: str, pieces: list[str] | None) -> list[str]:
        if not pieces or tuple(pieces) in seen:
            return []
        seen.add(tuple(pieces))
        return pieces

    return rule


def unless_in_the_version_before() -> Rule:
    """Each piece that the document's version before did not hold."""
    held: dict[str, set[str]] = {}

    def rule(document: str, pieces: list[str] | None) -> list[str]:
        before = held.pop(document, set())
        held[document] = set(pieces or [])
        return [piece for piece in dict.fromkeys(pieces or []) if piece not in before]

    return rule


def once() -> Rule:
    """Each piece once, ever."""
    seen: set[str] = set()

    def rule(_: str, pieces: list[str] | None) -> list[str]:
        new = [piece for piece in dict.fromkeys(pieces or []) if piece not in seen]
        seen.update(new)
        return new

    return rule


def follow(
    history: Path,
    folder: Path,
    ways: dict[str, Rule],
    split: Callable[[str, str], list[str]],
    about: tuple[str, float],
) -> list[Way]:
    """Go through the history once, by every rule. about: the splitter's setting and mean, as in Way."""
    records = {name: Record(folder, f"way-{at}") for at, name in enumerate(ways)}
    for step in steps(history):
        pieces = {path: None if text is None else split(path, text) for path, text in step.documents.items()}
        for name, rule in ways.items():
            records[name].add(step, [text for path, found in pieces.items() for text in rule(path, found)])
    return [Way(name, record.close(), *about) for name, record in records.items()]
