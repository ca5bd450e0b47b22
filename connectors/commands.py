"""The package's commands, as `thalweg` mounts them: `sources ...`, `publish`, `upload`."""

from __future__ import annotations

import typer

from connectors import source_commands

app = typer.Typer(help="How changes come in.")
app.add_typer(source_commands.app, name="sources")
