"""What every test of the compose file starts from: its services, and the local stack they are held against."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.local.server import Context
from tests.deploy import compose_file


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    return compose_file.load_services()


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return compose_file.local_context(tmp_path_factory.mktemp("home"))
