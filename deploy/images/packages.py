"""Which packages of requirements.lock each image carries: `python -m deploy.images.packages` writes NAME.packages.txt.

Before: pyproject.toml's extras and requirements.lock, the one place of versions and hashes. After: the Dockerfiles run
this file by itself (`python packages.py LOCK NAMES`) and give pip the lines it prints, with --require-hashes, which
fails if a package is missing in the list. The lists hold names only, so that a review sees what an image gains.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
IMAGES: Mapping[str, tuple[str, ...]] = {
    "streams": ("streams", "parse", "local", "cohere", "postgres", "s3"),
    "upload": ("upload", "s3"),
    "query": ("query", "local", "cohere"),
    "connect": (),  # only the stage that runs Maven; nothing of Python gets into the image
}
"""Image to the extras of pyproject.toml that it carries, beside what every process needs."""

MACHINES = ("x86_64", "aarch64")


def wanted(pyproject: str, image: str) -> list[str]:
    """The requirements of an image as pyproject.toml declares them."""
    project = tomllib.loads(pyproject)["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in IMAGES[image] for line in extras[extra])]


def closure(requirements: Iterable[str]) -> list[str]:
    """The names of these requirements and of all they need, by what the installed distributions say; sorted.

    For Linux on every machine of MACHINES, with this Python's version. Raises PackageNotFoundError for one that is not
    installed here.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(line), "") for line in requirements]
    while waiting:
        requirement, parent_extra = waiting.pop()
        marker = requirement.marker
        if marker and not any(
            marker.evaluate({"extra": parent_extra, "platform_machine": machine}) for machine in MACHINES
        ):
            continue
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                needs = importlib.metadata.distribution(name).requires or ()
                waiting += [(Requirement(line), extra) for line in needs]
    return sorted({name for name, _ in seen})


def chosen(lock: str, names: Iterable[str]) -> str:
    """The blocks of the lock (pin, marker, hashes) of these packages. Raises KeyError for a name it does not hold."""
    blocks: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=\S)", lock):
        if found := re.match(r"([A-Za-z0-9._-]+)==", block):
            blocks.setdefault(re.sub(r"[-_.]+", "-", found[1]).lower(), []).append(block.rstrip("\n"))
    return "\n".join(block for name in names for block in blocks[name]) + "\n"


def list_of(image: str) -> Path:
    """Where an image's list lies."""
    return FOLDER / f"{image}.packages.txt"


def written(image: str) -> str:
    """What the list should hold."""
    names = closure(wanted((ROOT / "pyproject.toml").read_text(encoding="utf-8"), image))
    return "".join(f"{name}\n" for name in names)


def main(arguments: list[str]) -> None:
    """With LOCK and NAMES: print the chosen part of the lock. With nothing: write all lists anew."""
    if arguments:
        lock, names = (Path(argument).read_text(encoding="utf-8") for argument in arguments)
        sys.stdout.write(chosen(lock, names.split()))
        return
    for image in IMAGES:
        list_of(image).write_text(written(image), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
