"""No log line holds a question, a text, a title, a metadata value or a file's name, whatever breaks meanwhile.

Each of them is planted as a word that is nowhere else. What breaks says the word in its message, as errors of libraries
do (`could not convert string to float: '...'`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from runtime.metrics import declare
from runtime.producer import DeliveryFailed
from runtime.tracebacks import traced
from schemas.records import Event, Upload
from streams.adapters.runner import Loop
from streams.core.budget import LetterBudget
from streams.parsing.result import ParsedText
from streams.ports import Inbound, Step
from streams.steps.capture import CaptureStep
from streams.steps.parse import ParseStep
from tests.property.test_index_machine import CODEC, CountingEmbedder, Ticking, inbound, make_change, make_step
from tests.support.fake_index import FakeIndex as FakeStore
from tests.support.unprotected import unprotected
from tests.unit.connectors.upload_api.world import ADMIN, upload_world
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex, candidate, manifest
from tests.unit.query_api.fakes import app_around

QUERY, TEXT, TITLE, VALUE, FILE = "kanarienfrage", "kanarientext", "kanarientitel", "kanarienwert", "kanariendatei"
PLANTED = (QUERY, TEXT, TITLE, VALUE, FILE)


def says_all() -> Exception:
    return ValueError(f"could not convert string to float: {' '.join(PLANTED)}")


def events(log: StringIO) -> set[str]:
    """The events that were logged; a planted word in any line fails the test."""
    found = set()
    for line in log.getvalue().splitlines():
        assert not [word for word in PLANTED if word in line], line
        found.add(json.loads(line)["event"])
    return found


class Breaks:
    """Stands for any port: every call fails, and says what it was about."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object, **__: object) -> Any:
            raise says_all()

        return fail


async def test_asking(log: StringIO) -> None:
    document = f"acme/handbook/{1}"
    index = FakeIndex([candidate(document, text=TEXT)], [manifest(document, "c", length=len(TEXT))])
    body = {"query": QUERY, "filters": {"team": VALUE}, "doc_ids": [FILE]}
    well = app_around(index, FakeEmbedder()).client
    broken_answer = app_around(index, FakeEmbedder(), answerer=Breaks()).client
    broken_model = app_around(index, FakeEmbedder(says_all())).client
    broken_index = app_around(FakeIndex(fails=says_all()), FakeEmbedder()).client

    for path in ("/v1/search", "/v1/query"):
        assert (await well.post(path, json=body)).status_code == 200
        assert (await well.post(f"{path}?q={QUERY}", json=body | {"query": QUERY * 200})).status_code == 422
        assert (await well.post(path, json=body | {QUERY: VALUE})).status_code == 422
        assert (await well.post(path, content=QUERY.encode())).status_code == 400
        assert (await broken_model.post(path, json=body)).status_code == 500
        assert (await broken_index.post(path, json=body)).status_code == 500
    assert (await broken_answer.post("/v1/query", json=body)).status_code == 500

    assert {"query_completed", "unexpected_error", "request"} <= events(log)


async def test_uploading_and_publishing(log: StringIO, tmp_path: Path) -> None:
    document = {"text": TEXT, "title": TITLE, "metadata": {"by": VALUE}, "knowledge_base": "shop"}
    fields = {"title": TITLE, "metadata": json.dumps({"by": VALUE})}
    headers = {"X-API-Key": ADMIN}
    async with upload_world(tmp_path) as world:
        for _ in range(3):
            sent = [
                await world.upload(TEXT.encode(), f"{FILE}.txt", metadata=fields["metadata"]),
                await world.upload(TEXT.encode(), f"{FILE}.exe", metadata=VALUE),
                await world.client.put("/v1/documents/1", json=document, headers=headers),
                await world.client.put("/v1/documents/1", json=document | {TITLE: VALUE}, headers=headers),
                await world.client.post("/v1/documents", json={"documents": [document | {"id": "1"}]}, headers=headers),
                await world.client.post("/v1/events", json=document, headers=headers),
            ]
            assert sent[1].status_code >= 400
            world.log.failure_of = (
                {"uploads": says_all(), "events": says_all()}  # type: ignore[dict-item]  # an error nobody foresaw
                if not world.log.failure_of
                else {"uploads": DeliveryFailed("uploads: away", retriable=True)}
            )

    assert {"request", "unexpected_error"} <= events(log)


def loop_over(step: Step, outbox: Any) -> Loop:
    async def at_once(_: float) -> None:
        return None

    return Loop(
        step=step,
        outbox=outbox,
        metrics=declare(CollectorRegistry()),
        attempts=2,
        retry_max_s=1.0,
        budget=LetterBudget(1000, 1000, ()),
        abort=lambda why: None,  # type: ignore[arg-type, return-value]
        sleep=at_once,
    )


class Letters:
    """Takes letters, once the first has failed with all it knows."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.failed = False

    def park(self, _: Inbound, outcome: Any) -> None:
        """As KafkaOutbox.park."""
        if not self.failed:
            self.failed = True
            raise says_all()
        self.told += [outcome.detail, outcome.trace]


class Pages:
    """A file store and a parser: any file has the planted text."""

    async def parse(self, *_: object, **__: object) -> ParsedText:
        """As ParserPool.parse."""
        return ParsedText(TEXT, (), TITLE, {})

    def fetch_to(self, *_: object) -> None:
        """As BlobStore.fetch_to."""


class BreakingEmbedder(CountingEmbedder):
    """A model whose library says what it was given."""

    def embed_documents(self, texts: Any) -> Any:
        """Fails."""
        raise says_all()


async def test_the_workers(log: StringIO, tmp_path: Path) -> None:
    event = Event("t", "kb", "a", text=TEXT, title=TITLE, metadata={"by": VALUE}, source="shop")
    upload = Upload("u", "t", "kb", "a", f"{FILE}.txt", "txt", 1, "", "blob", TITLE, {"by": VALUE})
    letters = Letters()
    for step, record in (
        (
            CaptureStep(CODEC, Breaks(), Breaks(), Ticking(), {}, dict, lambda: Breaks().protect),
            Inbound("events", 0, 1, 1000, b"k", CODEC.encode("events", event)),
        ),
        (
            ParseStep(CODEC, Pages(), Pages(), Breaks(), Ticking(), tmp_path, 5.0, unprotected),  # type: ignore[arg-type]
            Inbound("uploads", 0, 1, 1000, b"k", CODEC.encode("uploads", upload)),
        ),
        (make_step(FakeStore(), BreakingEmbedder()), inbound(make_change("a", 1, TEXT), 0)),
    ):
        await loop_over(step, letters).settle([record])

    assert {"retrying", "parked", "dead_letter_not_told"} <= events(log)
    assert len(letters.told) == 6
    assert not [word for word in PLANTED for told in letters.told if word in told]
    assert "ValueError" in letters.told


def test_a_library_that_logs_an_error(log: StringIO) -> None:
    try:
        raise says_all()
    except ValueError:
        logging.getLogger("some.library").exception("it broke")

    assert events(log) == {"it broke"}
    assert "ValueError" in log.getvalue()
    assert Path(__file__).name in log.getvalue()


def test_an_error_of_ours_is_told_whole_with_what_it_came_from() -> None:
    try:
        try:
            raise says_all()
        except ValueError as error:
            raise DeliveryFailed("events: no answer", retriable=True) from error
    except DeliveryFailed:
        text = traced(sys.exc_info()[1] or says_all())

    lines = text.splitlines()
    assert "ValueError" in lines
    assert lines[-1] == "DeliveryFailed: events: no answer"
    assert lines.index("ValueError") < len(lines) - 1


def test_an_error_that_is_its_own_cause_is_told_once() -> None:
    error = ValueError("x")
    error.__cause__ = error

    assert asyncio.run(asyncio.sleep(0, traced(error))) == "ValueError"
