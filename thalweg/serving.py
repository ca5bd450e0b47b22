"""`thalweg serve upload` and `thalweg serve query`: each loads its own package and nothing of the other's."""

from __future__ import annotations

import typer

serve = typer.Typer(no_args_is_help=True, help="Run one API until a signal ends it.")


@serve.command()
def upload() -> None:
    """Run the upload API."""
    from connectors.upload_api.main import serve_upload

    serve_upload()


@serve.command()
def query() -> None:
    """Run the query API."""
    from query_api.commands import serve_query

    serve_query()
