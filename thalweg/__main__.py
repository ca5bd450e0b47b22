"""The command: one table of names, each loaded only when it is asked for.

A process loads no more than its own package: `thalweg serve query` imports neither Faust nor unstructured.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import Any, NamedTuple

import typer

from runtime.settings import SettingsError


class _Command(NamedTuple):
    module: str
    attribute: str
    help: str


COMMANDS: dict[str, _Command] = {
    "up": _Command("thalweg.status", "up", "Start the local stack; set it up first where needed."),
    "down": _Command("deploy.local.commands", "down", "Stop the local stack; data is kept."),
    "status": _Command("thalweg.status", "status", "Show servers and stages: state, lag, rate, freshness."),
    "demo": _Command("deploy.demo.commands", "demo", "Show all of it: a corpus, live changes, a cited answer."),
    "setup": _Command("deploy.local.commands", "setup", "Fetch and build the local stack's parts; start nothing."),
    "doctor": _Command("deploy.local.doctor", "doctor", "Check everything; each failure names its fix."),
    "sources": _Command("connectors.commands", "sources", "Tables as sources: plan, apply, status, remove."),
    "upload": _Command("connectors.commands", "upload", "Upload files, with progress until they are searchable."),
    "publish": _Command("connectors.commands", "publish", "Publish events from a file of JSON lines."),
    "search": _Command("query_api.commands", "search", "Search; prints hits."),
    "ask": _Command("query_api.commands", "ask", "Ask; prints an answer with its citations."),
    "topics": _Command("runtime.commands", "topics_app", "Make topics as the files say."),
    "schemas": _Command("runtime.commands", "schemas_app", "Check and register schemas."),
    "config": _Command("runtime.config_commands", "config", "Show settings and where they come from."),
    "access": _Command("runtime.access_commands", "app", "Users, API keys, knowledge bases, roles."),
    "audit": _Command("runtime.audit_commands", "app", "Who did what: export."),
    "dlq": _Command("streams.dlq.commands", "app", "Dead letters: list, show, redrive, drop."),
    "generation": _Command("streams.commands", "generation", "Generations of the index."),
    "retention": _Command("streams.retention_commands", "app", "Delete what knowledge bases keep no longer."),
    "rebuild": _Command("streams.rebuilding.commands", "rebuild", "Make, promote, take back and prune generations."),
    "worker": _Command("streams.commands", "worker", "Run one worker: capture, parse, index or rebuild."),
    "serve": _Command("thalweg.serving", "serve", "Run one API: upload or query."),
    "lag-exporter": _Command("streams.commands", "lag_exporter", "Export each stage's queue depth."),
}


_SPOKEN = frozenset(
    {
        *("BrokerUnavailable", "DeliveryFailed", "RegistryUnavailable", "NotRegistered", "IncompatibleSchema"),
        *("EmbeddingMisconfigured", "EmbeddingUnavailable", "WeaviateUnavailable", "NoLiveGeneration", "WrongModel"),
        *("LocalStackError", "StartError", "BlobUnavailable", "RebuildRefused", "NotBeside"),
        *("AuditUnavailable", "NotReadBack"),
    }
)
"""Errors of ours whose text is for people: by name, so that no command loads another package for them."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Exit code 2: no such command, or a setting is wrong; else the command's own."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("--help", "-h"):
        print(_overview())  # noqa: T201  the command's output
        sys.exit(0 if arguments else 2)
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        print(f"thalweg: no command {name!r}{hint} `thalweg --help` lists them all", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    try:
        app = _app(COMMANDS[name], name)
        app.pretty_exceptions_enable = False
        app(args=rest, prog_name=f"thalweg {name}")
    except SettingsError as error:
        print(f"thalweg: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except Exception as error:
        # Only what is away or refused, and says so in words, is shown as one line; a defect keeps its traceback.
        if type(error).__name__ not in _SPOKEN:
            raise
        print(f"thalweg: {error} (`thalweg doctor` checks every part)", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _app(entry: _Command, name: str) -> typer.Typer:
    """The command's app; a plain function becomes one."""
    found: Any = getattr(importlib.import_module(entry.module), entry.attribute)
    if isinstance(found, typer.Typer):
        return found
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name)(found)
    return app


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {entry.help}" for name, entry in COMMANDS.items()]
    head = "Keeps a semantic index exactly as fresh as the systems that feed it.\n\nUsage: thalweg COMMAND [--help] ..."
    return "\n".join([head, "", *lines])


if __name__ == "__main__":
    main()
