"""Dockerfiles as data, as far as the tests ask: stages, what makes a target's image, its last word on a setting."""

import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
THALWEG = "deploy/images/thalweg.Dockerfile"
CONNECT = "deploy/images/connect.Dockerfile"


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Each instruction with its arguments, continued lines joined."""
    lines = [line for line in (ROOT / dockerfile).read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]
    assert found
    return found


def stages(dockerfile: str) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Stage name to what it is from and its instructions; the last one of a file without a name is ''."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    current: list[tuple[str, str]] = []
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = []
            found[name] = (base, current)
        else:
            current.append((word, rest))
    return found


def lineage(dockerfile: str, target: str | None) -> list[tuple[str, str]]:
    """All instructions that make a target's image, the base's first."""
    known = stages(dockerfile)
    name, made = target or "", list[tuple[str, str]]()
    while name in known:
        base, own = known[name]
        made = [*own, *made]
        name = base
    assert made
    return made


def image_setting(dockerfile: str, target: str | None, instruction: str) -> str | None:
    """The last value of an instruction in a target's image."""
    return next((rest for word, rest in reversed(lineage(dockerfile, target)) if word == instruction), None)


def image_variables(dockerfile: str, target: str) -> dict[str, str]:
    """The environment of a target's image."""
    lines = [rest for instruction, rest in lineage(dockerfile, target) if instruction == "ENV"]
    words = [word for line in lines for word in shlex.split(line)]
    return dict(word.split("=", 1) for word in words)
