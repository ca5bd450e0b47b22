"""`thalweg config show`: every setting, its value and where it came from. Secrets are never printed."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from runtime.settings import Settings, load_with_origin

config = typer.Typer(no_args_is_help=True, help="Settings.")


@config.callback()
def _group() -> None:
    """Settings: their values and where they come from."""


@config.command()
def show(
    redacted: Annotated[bool, typer.Option(help="Always on: secrets are never printed.")] = True,  # noqa: ARG001
    origin: Annotated[bool, typer.Option("--origin", help="Also say where each value came from.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every setting. Exit code 2: a setting is wrong."""
    settings, origins = load_with_origin()
    rows = _rows(settings)
    if as_json:
        typer.echo(
            json.dumps({k: {"value": v, "origin": origins.get(k, "default")} for k, v in rows.items()}, indent=2)
        )
        return
    for name, value in rows.items():
        typer.echo(f"{name} = {value}" + (f"    ({origins.get(name, 'default')})" if origin else ""))


def _rows(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for section, value in settings.model_dump(mode="json").items():
        if isinstance(value, dict):
            found |= {f"{section}.{name}": item for name, item in value.items()}
        else:
            found[section] = value
    return found
