"""`thalweg doctor`: runs every check and says, for each fault, what mends it.

Before: `doctor_checks`. After: a person, or a script that reads the exit code.

Exit codes: 0 all is well; 1 some check failed; 2 wrong usage.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from deploy.local.doctor_checks import CHECKS, Check, Finding, Situation
from deploy.local.errors import LocalStackError
from runtime.settings import SettingsError, load_settings


def examine(environ: Mapping[str, str], checks: tuple[Check, ...] = CHECKS) -> list[Finding]:
    """Run all checks. Settings that do not load are one finding, and the only one: nothing else could be trusted."""
    try:
        settings = load_settings(environ)
    except SettingsError as error:
        return [Finding("settings", False, str(error), "Correct it in the environment or in thalweg.toml.")]
    situation = Situation(settings, environ)
    findings = [Finding("settings", True, f"home {settings.home}")]
    for check in checks:
        try:
            findings.append(check(situation))
        except (LocalStackError, OSError) as error:
            findings.append(Finding(check.__name__.replace("_", " "), False, str(error), "See the text on the left."))
    return findings


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check everything the product needs; each failure names its fix. Exit code 1 if any check fails."""
    findings = examine(os.environ)
    if as_json:
        typer.echo(json.dumps({"ok": all(f.ok for f in findings), "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        console = Console()
        for finding in findings:
            mark = "[green]ok  [/]" if finding.ok else "[red]FAIL[/]"
            console.print(f"{mark} {finding.name:<15} ", end="")
            console.print(finding.detail, highlight=False, markup=False, soft_wrap=True)
            if finding.fix:
                console.print(f"     {'':<15} -> {finding.fix}", highlight=False, markup=False, soft_wrap=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
