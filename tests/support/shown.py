"""The stacks whose logs a failed test shows, by the fixture that it asked for."""

from __future__ import annotations

import pytest

from deploy.local.stack import Stack

RUNNING = pytest.StashKey[dict[str, Stack]]()


def show(config: pytest.Config, fixture: str, stack: Stack) -> None:
    """From now on, failed tests with this fixture show the stack's logs."""
    config.stash.setdefault(RUNNING, {})[fixture] = stack
