"""The command itself: its table, and what a person sees who mistypes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.apps import code_root
from thalweg.__main__ import COMMANDS, main

PROMISED = {
    *("up", "down", "status", "demo", "doctor", "sources", "upload", "publish", "search", "ask", "topics", "schemas"),
    *("config", "worker", "serve", "lag-exporter"),
}


@pytest.fixture(autouse=True)
def empty_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the caller's, and a home without a stack."""
    for name in [name for name in os.environ if name.startswith("THALWEG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("THALWEG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_every_promised_command_is_in_the_table() -> None:
    assert set(COMMANDS) >= PROMISED


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])

    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"thalweg {name}" in told
    assert len(told.splitlines()) > 5


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(f"  {name} " in told and command.help in told for name, command in COMMANDS.items())


def test_no_command_at_all_shows_the_overview_and_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])

    assert ended.value.code == 2
    assert "Usage: thalweg COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(("typed", "meant"), [("serach", "search"), ("stauts", "status"), ("source", "sources")])
def test_an_unknown_command_is_answered_with_the_nearest_one(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([typed])

    assert ended.value.code == 2
    assert f"did you mean `{meant}`?" in capsys.readouterr().err


def test_an_unknown_command_near_none_gets_no_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["zzzzzz"])

    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert "zzzzzz" in told
    assert "did you mean" not in told


@pytest.mark.parametrize("command", [["search", "words"], ["worker", "index"], ["lag-exporter"], ["config", "show"]])
@pytest.mark.parametrize(
    "wrong",
    [("THALWEG_KAFKA__BOOTSTRAPP", "x:1", "THALWEG_KAFKA__BOOTSTRAPP"), ("THALWEG_QUERY__PORT", "many", "query.port")],
)
def test_a_wrong_setting_ends_any_command_with_code_2_and_one_line_that_names_it(
    command: list[str],
    wrong: tuple[str, str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    variable, value, named = wrong
    monkeypatch.setenv(variable, value)

    with pytest.raises(SystemExit) as ended:
        main(command)

    told = capsys.readouterr()
    assert ended.value.code == 2
    assert len(told.err.strip().splitlines()) == 1
    assert named in told.err
    assert not told.out


def test_status_of_a_home_without_a_stack_says_so_with_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["status"])

    assert ended.value.code == 3
    assert "thalweg up" in capsys.readouterr().out


def test_the_module_is_the_command() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "thalweg", "serach"],
        env={**os.environ, "PYTHONPATH": str(code_root())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 2
    assert "did you mean `search`?" in ended.stderr
