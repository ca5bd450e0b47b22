"""The doctor names what is wrong and what mends it."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.local import doctor_checks
from deploy.local.commands import make_status
from deploy.local.doctor import doctor, examine
from deploy.local.doctor_checks import CHECKS, Situation
from deploy.local.status_report import nothing_measured
from runtime.settings import load_settings

NOBODY = "http://127.0.0.1:1"


@contextmanager
def standing_in(pages: dict[str, object]) -> Iterator[str]:
    """A server that answers these paths with JSON and all others with 404."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in pages else 404)
            self.end_headers()
            self.wfile.write(json.dumps(pages.get(self.path)).encode())

        def log_message(self, *_arguments: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def situation(home: Path, **environ: str) -> Situation:
    env = {"THALWEG_HOME": str(home), **environ}
    return Situation(load_settings(env, folder=home), env)


def test_settings_that_do_not_load_should_be_the_only_finding(tmp_path: Path) -> None:
    findings = examine({"THALWEG_HOME": str(tmp_path), "THALWEG_KAFKA__BOOTSRAP": "x"})
    assert [(finding.name, finding.ok) for finding in findings] == [("settings", False)]
    assert "BOOTSRAP" in findings[0].detail


@pytest.mark.parametrize(
    ("check", "environ"),
    [
        (doctor_checks.broker, {"THALWEG_KAFKA__BOOTSTRAP": "127.0.0.1:1"}),
        (doctor_checks.topics, {"THALWEG_KAFKA__BOOTSTRAP": "127.0.0.1:1"}),
        (doctor_checks.schema_registry, {"THALWEG_REGISTRY__URL": NOBODY}),
        (doctor_checks.connect_plugin, {"THALWEG_CONNECT__URL": NOBODY}),
        (doctor_checks.vector_store, {"THALWEG_WEAVIATE__URL": NOBODY}),
        (doctor_checks.source_database, {"THALWEG_POSTGRES__DSN": "postgresql://u:p@127.0.0.1:1/d"}),
    ],
)
def test_a_server_that_is_away_should_be_told_with_how_to_start_it(
    tmp_path: Path, check: doctor_checks.Check, environ: dict[str, str]
) -> None:
    finding = check(situation(tmp_path, **environ))
    assert not finding.ok
    assert "thalweg up" in finding.fix


def test_connect_without_debezium_should_be_told(tmp_path: Path) -> None:
    with standing_in({"/connector-plugins": [{"class": "SomethingElse"}]}) as url:
        finding = doctor_checks.connect_plugin(situation(tmp_path, THALWEG_CONNECT__URL=url))
    assert not finding.ok
    assert "plugin.path" in finding.fix


@pytest.mark.parametrize(("version", "ok"), [("1.31.9", False), ("1.32.0", True), ("1.39.0", True), ("2.0.1", True)])
def test_weaviate_should_be_new_enough_for_aliases(tmp_path: Path, version: str, *, ok: bool) -> None:
    with standing_in({"/v1/meta": {"version": version}}) as url:
        finding = doctor_checks.vector_store(situation(tmp_path, THALWEG_WEAVIATE__URL=url))
    assert finding.ok is ok


def test_a_missing_local_model_should_be_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    finding = doctor_checks.embedder(situation(tmp_path, THALWEG_EMBEDDING__PATH=str(tmp_path)))
    assert not finding.ok
    assert finding.fix == "thalweg setup"


def test_an_empty_cache_should_be_told_with_the_parts_it_lacks(tmp_path: Path) -> None:
    finding = doctor_checks.parts_made(situation(tmp_path, THALWEG_CACHE=str(tmp_path / "cache")))
    assert not finding.ok
    assert "weaviate" in finding.detail
    assert finding.fix == "thalweg setup"


def test_every_failure_should_name_a_fix(tmp_path: Path) -> None:
    nowhere = {
        "THALWEG_HOME": str(tmp_path), "THALWEG_CACHE": str(tmp_path / "cache"), "PATH": "",
        "THALWEG_KAFKA__BOOTSTRAP": "127.0.0.1:1", "THALWEG_REGISTRY__URL": NOBODY, "THALWEG_CONNECT__URL": NOBODY,
        "THALWEG_WEAVIATE__URL": NOBODY, "THALWEG_POSTGRES__DSN": "postgresql://127.0.0.1:1/d",
    }  # fmt: skip
    findings = examine(nowhere, tuple(check for check in CHECKS if check is not doctor_checks.sentence_model))
    failed = [finding for finding in findings if not finding.ok]
    assert len(failed) >= 8
    assert [finding.name for finding in failed if not finding.fix] == []


def test_the_command_should_print_json_and_exit_with_1_when_a_check_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    monkeypatch.setenv("THALWEG_HOME", str(tmp_path))
    monkeypatch.setenv("THALWEG_KAFKA__NO_SUCH", "x")
    app = typer.Typer()
    app.command()(doctor)
    result = CliRunner().invoke(app, ["--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False


def test_status_of_a_home_without_a_stack_should_say_so_with_exit_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer

    monkeypatch.setenv("THALWEG_HOME", str(tmp_path / "home"))
    app = typer.Typer()
    app.command()(make_status(nothing_measured))
    result = CliRunner().invoke(app, ["--json"])
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert found["phase"] == "stopped"
    assert found["stages"]["index"] == {
        "lag": None,
        "rate": None,
        "dead_letter_budget": None,
        "workers": [],
        "metrics": [],
    }
    assert found["freshness"] == {"p50": None, "p95": None}
