"""The demo's acts: each makes a claim, shows it happen, and fails if it did not.

Before: `load` has filled the stack. After: `commands` turns a failed claim into exit code 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from deploy.demo import corpus
from deploy.demo.client import Client, percentile, seconds_until
from deploy.demo.load import Places, load
from deploy.demo.screen import Screen
from deploy.demo.table import document_id

VISIBLE_S = 20.0
"""A change that is not visible after this long counts as lost."""

SAMPLES = 20
QUESTION = "What is guaranteed about __exit__() in a with statement?"
ANSWERED_BY = document_id("topic.with")
_OLD, _NEW = corpus.GAUGE, corpus.GAUGE_UPDATED


class ClaimFailed(Exception):
    """Something the demo claims did not happen; the text says what."""


def load_corpus(screen: Screen, places: Places) -> None:
    """Rows from PostgreSQL and files from the upload API, until all are searchable."""
    rows, files = corpus.rows(), corpus.file_documents()
    kinds = ", ".join(sorted({file.kind for file in files}))
    screen.step(f"Load {len(rows)} rows by change capture and {len(files)} files by upload")
    screen.say(f"Python's reference texts, licences and package descriptions, as {kinds}", style="dim")
    began = time.monotonic()
    with screen.loading(len(rows), len(files)) as tell:
        loaded = load(places, rows, files, tell)
    stats = places.client.stats()
    if loaded:
        told = f"{loaded} documents became searchable in {time.monotonic() - began:.0f} s"
    else:
        told = "all of them were searchable already: nothing was sent or embedded again"
    screen.held(f"{told}; {stats['documents']} documents, {stats['chunks']} chunks")


def update(screen: Screen, places: Places) -> None:
    """An UPDATE: the new text is found, the old one is not."""
    client = places.client
    screen.step("UPDATE a row in PostgreSQL")
    screen.say(f"before: {_OLD.body}", style="dim")
    screen.say(f"after:  {_NEW.body}", style="dim")
    _expect(_found(client, _OLD), "the row's first text is not found before the UPDATE")
    committed = places.articles.put(_NEW)
    seconds = seconds_until(lambda: _found(client, _NEW, mode="keyword"), committed, VISIBLE_S)
    _expect(seconds is not None, f"the new text is not found {VISIBLE_S:.0f} s after COMMIT")
    for mode in ("keyword", "vector", "hybrid"):
        _expect(not _found(client, _OLD, mode=mode), f"the old text is still found ({mode} search)")
        _expect(_found(client, _NEW, mode=mode), f"the new text is not found ({mode} search)")
    screen.held(f"the new text is found {seconds:.2f} s after COMMIT, the old text is not found any more")


def delete(screen: Screen, places: Places) -> None:
    """A DELETE: the document is gone from every kind of search."""
    client, row = places.client, corpus.BRIDGE
    screen.step("DELETE a row in PostgreSQL")
    screen.say(f"row: {row.body}", style="dim")
    _expect(_found(client, row), "the row's text is not found before the DELETE")
    committed = places.articles.delete(row.id)
    seconds = seconds_until(lambda: not _found(client, row, mode="keyword"), committed, VISIBLE_S)
    _expect(seconds is not None, f"the text is still found {VISIBLE_S:.0f} s after COMMIT")
    for mode in ("keyword", "vector", "hybrid"):
        _expect(not _found(client, row, mode=mode), f"the text is still found ({mode} search)")
    _expect(client.document(document_id(row.id)) is None, "the document is still there")
    screen.held(f"it is found no more {seconds:.2f} s after COMMIT")


def question(screen: Screen, places: Places) -> None:
    """A question, answered from the corpus, each sentence cited."""
    screen.step("Ask")
    screen.say(f"Q  {QUESTION}", style="bold")
    began = time.monotonic()
    told = places.client.ask(QUESTION)
    took = time.monotonic() - began
    _expect(bool(told["answer"]) and bool(told["citations"]), "the question got no answer with citations")
    screen.say(f"A  {_one_line(told['answer'], 400)}")
    for number, citation in enumerate(told["citations"], 1):
        hit = told["hits"][citation["hit"]]
        start, end = citation["start"] - hit["start"], citation["end"] - hit["start"]
        _expect(hit["text"][start:end] == citation["quote"], f"citation {number} does not say what the document says")
        where = f"characters {citation['start']}-{citation['end']}"
        screen.say(f"[{number}] {citation['document_id']}, {where}: “{_one_line(citation['quote'], 110)}”", style="dim")
    cited = {citation["document_id"] for citation in told["citations"]}
    _expect(ANSWERED_BY in cited, f"the answer does not cite {ANSWERED_BY}, but {', '.join(sorted(cited))}")
    written = "quoted from the documents, no model is set" if told["model"] == "extractive" else told["model"]
    screen.held(f"answered in {took:.2f} s, every quote verbatim in its document ({written})")


def freshness(screen: Screen, places: Places) -> None:
    """Updates one after another, each measured from COMMIT to the first search that returns it."""
    screen.step(f"Measure freshness: {SAMPLES} updates, from COMMIT to the first search that finds them")
    seconds = []
    for number in range(SAMPLES):
        word = f"gaugemark{number}x{time.time_ns() % 10**9}"
        row = replace(_NEW, body=f"{_NEW.body} The mark is {word}.")
        committed = places.articles.put(row)
        seconds.append(seconds_until(lambda word=word: _has_word(places.client, word), committed, VISIBLE_S))  # type: ignore[misc]
    seen = [one for one in seconds if one is not None]
    _expect(len(seen) == SAMPLES, f"{SAMPLES - len(seen)} of {SAMPLES} updates were never found")
    # The marks have done their work.
    places.articles.put(_NEW)
    p50, p95 = percentile(seen, 0.5), percentile(seen, 0.95)
    screen.held(f"p50 {p50:.2f} s, p95 {p95:.2f} s, slowest {max(seen):.2f} s; none missed")


ACTS: tuple[Callable[[Screen, Places], None], ...] = (load_corpus, update, delete, question, freshness)
"""In this order."""


def _found(client: Client, row: corpus.Row, *, mode: str = "hybrid") -> bool:
    """Whether a search for the row's own words returns them, from whatever document."""
    return any(row.body in hit["text"] for hit in client.search(row.body, mode=mode))


def _has_word(client: Client, word: str) -> bool:
    return any(word in hit["text"] for hit in client.search(word, mode="keyword", limit=1))


def _expect(held: bool, otherwise: str) -> None:
    if not held:
        raise ClaimFailed(otherwise)


def _one_line(text: Any, longest: int) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"
