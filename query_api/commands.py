"""`thalweg serve query`, `thalweg search`, `thalweg ask`. Before it: a terminal. After it: the running query API.

Exit codes: 0 done, 1 the API is away or refuses, 2 wrong usage or settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn

import httpx
import typer
from rich.console import Console
from rich.markup import escape

from query_api.answering.unseen import without_unseen
from query_api.listening import listen
from runtime.directory import read_demo_key
from runtime.settings import Settings, load_settings

app = typer.Typer(help="Ask the index.")

Text = Annotated[str, typer.Argument(help="What to look for.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's answer as it is.")]
Limit = Annotated[int, typer.Option(min=1, help="Most hits.")]
Base = Annotated[list[str] | None, typer.Option("--knowledge-base", "-k", help="Only here; may be given again.")]
Mode = Annotated[Literal["hybrid", "vector", "keyword"], typer.Option(help="How to match.")]
Filters = Annotated[str | None, typer.Option("--filters", help='JSON: \'{"year": {"gte": 2020}}\'.')]

_ASK_S = 120.0
_KEY_VARIABLE = "THALWEG_API_KEY"


def serve_query() -> None:
    """Run the query API as the settings say, until it is told to stop."""
    from query_api.bootstrap import serve

    serve(load_settings())


@app.command("search")
def search(
    text: Text,
    *,
    limit: Limit = 5,
    knowledge_base: Base = None,
    mode: Mode = "hybrid",
    filters: Filters = None,
    as_json: AsJson = False,
) -> None:
    """Hits for a query."""
    body = _request(text, limit, knowledge_base, mode, filters)
    _show("/v1/search", body, as_json=as_json)


@app.command("ask")
def ask(
    text: Text,
    *,
    limit: Limit = 5,
    knowledge_base: Base = None,
    mode: Mode = "hybrid",
    filters: Filters = None,
    as_json: AsJson = False,
) -> None:
    """An answer with citations, printed as it is written."""
    body = _request(text, limit, knowledge_base, mode, filters)
    if as_json:
        _show("/v1/query", body, as_json=True)
    else:
        _listen(body)


def _request(text: str, limit: int, bases: list[str] | None, mode: str, filters: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {"query": text, "limit": limit, "mode": mode}
    if bases:
        body["knowledge_bases"] = bases
    if filters is not None:
        try:
            body["filters"] = json.loads(filters)
        except json.JSONDecodeError as error:
            raise typer.BadParameter(f"--filters is no JSON: {error}") from error
    return body


def _show(path: str, body: Mapping[str, Any], *, as_json: bool) -> None:
    settings = _settings()
    answered = _post(settings, path, body)
    if as_json:
        typer.echo(json.dumps(answered, ensure_ascii=False, indent=2))
        return
    _print(answered, said=False)


def _listen(body: Mapping[str, Any]) -> None:
    """Print an answer as it is written; ends the command with code 1 if it breaks off."""
    settings = _settings()
    said = False
    try:
        for name, data in listen(f"{_url(settings)}/v1/query", body, _key(settings), longest_silence_s=_ASK_S):
            match name:
                case "delta":
                    typer.echo(without_unseen(data["text"]), nl=False)
                    said = True
                case "done":
                    if said:
                        typer.echo()
                    _print(data, said=said)
                    return
                case "error":
                    if said:
                        typer.echo()
                    _refuse(data)
    except httpx.HTTPError as error:
        if not said:
            _fail(_away(settings, error))
    _fail("\nthe answer broke off: ask again")


def _print(answered: Mapping[str, Any], *, said: bool) -> None:
    """said: the answer's text has been printed already."""
    console = Console(highlight=False)
    if "answer" in answered:
        if not said:
            console.print(_shown(answered["answer"]))
        if answered["model"] == "extractive":
            console.print("[dim](quoted from the documents; no model wrote this)[/dim]")
        for number, citation in enumerate(answered["citations"], 1):
            where = f"{citation['document_id']} {citation['start']}-{citation['end']}"
            console.print(f"[bold]\\[{number}][/bold] {_shown(where)}: [italic]{_shown(citation['quote'])}[/italic]")
    for hit in answered["hits"]:
        heading = " > ".join(hit["heading"])
        title = hit["title"] or hit["document_id"]
        console.print(f"\n[bold]{_shown(title)}[/bold] [dim]{_shown(heading)}[/dim] {hit['score']:.3f}")
        console.print(f"[dim]{_shown(hit['knowledge_base'])}/{_shown(hit['document_id'])}[/dim]")
        console.print(_shown(hit["text"][:500]))
    if not answered["hits"]:
        console.print("Nothing was found.")
    without = f", without {', '.join(answered['degraded'])}" if answered.get("degraded") else ""
    console.print(f"\n[dim]{len(answered['hits'])} hits in {answered['took_ms']:.0f} ms{without}[/dim]")


def _shown(text: str) -> str:
    """A text from a document for a terminal: it commands neither the terminal nor its colours."""
    return escape(without_unseen(text))


def _post(settings: Settings, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The API's answer; ends the command with code 1 if there is none, or a problem."""
    try:
        with httpx.Client(timeout=_ASK_S, trust_env=False) as client:
            headers = {"Authorization": f"Bearer {_key(settings)}"}
            answered = client.post(f"{_url(settings)}{path}", json=body, headers=headers)
    except httpx.HTTPError as error:
        _fail(_away(settings, error))
    found: dict[str, Any] = answered.json()
    if answered.is_error:
        _refuse(found)
    return found


def _settings() -> Settings:
    # The key is the caller's, no setting: load_settings would refuse its name.
    return load_settings({name: value for name, value in os.environ.items() if name != _KEY_VARIABLE})


def _url(settings: Settings) -> str:
    return f"http://{settings.query.host}:{settings.query.port}"


def _away(settings: Settings, error: Exception) -> str:
    return f"no answer from the query API at {_url(settings)} ({type(error).__name__}): start it with `thalweg up`"


def _refuse(problem: Mapping[str, Any]) -> NoReturn:
    fixes = [f"  {item['field']} {item['message']}: {item['fix']}" for item in problem.get("errors", [])]
    _fail("\n".join([f"{problem.get('title')}: {problem.get('detail')}", *fixes]))


def _key(settings: Settings) -> str:
    if given := os.environ.get(_KEY_VARIABLE):
        return given
    if settings.access.demo_key_file is None:
        _fail(f"no API key: set {_KEY_VARIABLE}, or start the local stack with `thalweg up`")
    return read_demo_key(settings.access.demo_key_file)


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(1)
