"""docker-compose.yml as data, and deploy/local's description of the same system on the usual ports."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.local import apps, parts
from deploy.local.places import Home
from deploy.local.ports import DEFAULTS
from deploy.local.server import Context

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
LOOPBACK = "127.0.0.1"
ANYWHERE = "0.0.0.0"  # noqa: S104 - inside a container


def load() -> dict[str, Any]:
    """The whole file, anchors resolved, variables as they stand."""
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    assert found["services"]
    return found


def load_services() -> dict[str, dict[str, Any]]:
    """Its services."""
    return dict(load()["services"])


def one_shot(service: Mapping[str, Any]) -> bool:
    """Whether it is meant to end."""
    return bool(service.get("restart") == "no")


def ours(services: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The services that run our Python code."""
    found = {name: service for name, service in services.items() if service["image"].startswith("thalweg/")}
    found.pop("connect")
    assert len(found) >= len(apps.APPS) + len(apps.STEPS)
    return found


def local_context(folder: Path) -> Context:
    """What deploy/local describes its servers from."""
    home = Home(folder)
    home.make()
    return Context(home, {name: Path("/parts") / name for name in parts.ALL}, DEFAULTS, {})
