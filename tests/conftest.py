"""The whole product for tests that need it: one local stack for the session, all real servers and our own processes.

`THALWEG_TEST_HOME` names a running stack to be used instead (`THALWEG_HOME=... thalweg up`): for work on the tests.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator, Mapping
from io import StringIO
from pathlib import Path

import pytest
import structlog

from deploy.local import stack as local_stack
from deploy.local.errors import LocalStackError, StartError
from deploy.local.logs import tail
from deploy.local.stack import Stack
from runtime import logs
from tests.support.product import Product, product_of
from tests.support.quiesce import Receipts
from tests.support.shown import RUNNING, show

PARSE_TIMEOUT_S = 10
"""One file's deadline in the session's stack, so that a test can see one pass."""
LINES, LINE = 15, 300
"""Of each log, how many lines a failed test shows, and how much of each."""
WHY = 1_500
"""Characters of a failure's message in the summary."""


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The local stack with our processes, on free ports in a folder of its own, stopped and deleted at the end."""
    if home := os.environ.get("THALWEG_TEST_HOME"):
        running = local_stack.open_stack(Path(home))
        if not running.running():
            pytest.fail(f"THALWEG_TEST_HOME={home}: no stack runs there. Start it: THALWEG_HOME={home} thalweg up")
        show(request.config, "stack", running)
        yield running
        return
    home_folder = tmp_path_factory.mktemp("product") / "home"
    try:
        started = local_stack.start(
            home_folder, apps=True, usual_ports=False, tied=True, environ=_environment(os.environ)
        )
    except StartError as error:
        pytest.fail(f"the stack did not start: {error}\n{error.log}\nParts missing? make setup", pytrace=False)
    except LocalStackError as error:
        pytest.fail(f"the stack did not start: {error}\nParts missing? make setup", pytrace=False)
    show(request.config, "stack", started)
    try:
        yield started
    finally:
        started.stop()
        started.delete_data()


@pytest.fixture(scope="session")
def product(stack: Stack) -> Iterator[Product]:
    """The running product: its APIs with the demo key, metrics, processes, full scan."""
    with product_of(stack) as made:
        yield made


@pytest.fixture(scope="session")
def receipts(product: Product) -> Iterator[Receipts]:
    """Every receipt written during the session."""
    with Receipts(product) as made:
        yield made


@pytest.fixture
def log() -> Iterator[StringIO]:
    """All that is logged meanwhile, as our processes log it."""
    stream = StringIO()
    logs.configure("debug", stream)
    yield stream
    structlog.reset_defaults()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test on the stack shows the end of each log of our processes that is not empty."""
    report = yield
    for fixture, running in item.config.stash.get(RUNNING, {}).items():
        if report.failed and fixture in getattr(item, "fixturenames", ()):
            for name, text in _logs(running).items():
                report.sections.append((f"log of {name}", text))
    return report


def _logs(stack: Stack) -> dict[str, str]:
    now = stack.state()
    shown = {name: tail(Path(record["log"]), 60) for name, record in now["processes"].items() if "log" in record}
    shown |= {
        name: tail(Path(record["log"]), 60)
        for name, record in now["servers"].items()
        if "log" in record and record["state"] != "ready"
    }
    return {name: _short(text) for name, text in shown.items() if text}


def _short(log: str) -> str:
    """The last lines of a log that say different things: a server that is away is the same line hundreds of times."""
    kept: dict[str, str] = {}
    for line in log.splitlines():
        what = re.sub(r"[0-9]+", "", line)
        kept.pop(what, None)
        kept[what] = line[:LINE]
    return "\n".join(list(kept.values())[-LINES:])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why each failed test failed, once more and in a few lines: the logs above are long."""
    for report in (*terminalreporter.stats.get("failed", ()), *terminalreporter.stats.get("error", ())):
        terminalreporter.section(f"why {report.nodeid}", sep="=")
        crash = getattr(report.longrepr, "reprcrash", None)
        terminalreporter.write_line((crash.message if crash else report.longreprtext)[:WHY])
        if crash:
            terminalreporter.write_line(f"{crash.path}:{crash.lineno}")


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without settings of other stacks, and with what the tests need to be quick."""
    kept = {name: value for name, value in given.items() if not name.startswith("THALWEG_") or "CACHE" in name}
    return {**kept, "THALWEG_PARSE__TIMEOUT_S": str(PARSE_TIMEOUT_S)}
