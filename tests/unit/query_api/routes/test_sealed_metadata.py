"""Sealed metadata in answers: in clear for who may read the document, sealed where the key is missing, in no model."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from query_api.answering.answers import Answer, at_once
from query_api.retrieval.visibility import Hit
from runtime.privacy.sealing import Seals
from runtime.server_sent import EventReader
from tests.unit.query_api.fake_index import FakeEmbedder, FakeIndex, candidate, manifest
from tests.unit.query_api.fakes import Parts, app_around

KEY, OTHER = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
DOCUMENT = "acme/handbook/ann"
SEALED = Seals([KEY]).sealed(DOCUMENT, "salary", 71_500)


@dataclass
class Listening:
    """An answerer that keeps what it was given."""

    given: list[Hit] = field(default_factory=list)

    def identity(self, question: str) -> str:
        """As Answerer."""
        return "listening"

    async def answer(self, question: str, hits: Sequence[Hit]) -> Answer:
        """As Answerer."""
        self.given += hits
        return Answer("yes", (), "listening")

    async def stream(self, question: str, hits: Sequence[Hit]) -> AsyncGenerator[str | Answer, None]:
        """As Answerer."""
        async for part in at_once(await self.answer(question, hits)):
            yield part


def app(seal_keys: Sequence[str], model: Listening | None = None) -> Parts:
    kept = replace(manifest(DOCUMENT, "c"), metadata={"salary": SEALED, "team": "weir"})
    index = FakeIndex([candidate(DOCUMENT)], [kept])
    return app_around(index, FakeEmbedder(), answerer=model, seal_keys=seal_keys)


async def shown(parts: Parts) -> list[dict[str, Any]]:
    """The document's metadata by every route that shows any."""
    client, asked = parts.client, {"query": "pay"}
    searched = (await client.post("/v1/search", json=asked)).json()["hits"]
    answered = (await client.post("/v1/query", json=asked)).json()["hits"]
    batch = (await client.post("/v1/query/batch", json={"queries": [asked]})).json()
    store = (await client.post("/v1/vector_stores/handbook/search", json=asked)).json()["data"]
    document = (await client.get("/v1/documents/ann")).json()
    streamed = await client.post("/v1/query", json=asked, headers={"Accept": "text/event-stream"})
    events = {one.event: json.loads(one.data) for one in EventReader().feed(streamed.content)}
    hits = [*searched, *answered, *batch["results"][0]["answer"]["hits"]]
    hits += [*events["hits"]["hits"], *events["done"]["hits"]]
    return [*(hit["metadata"] for hit in hits), store[0]["attributes"], document["metadata"]]


@pytest.mark.parametrize("keys", [[KEY], [OTHER, KEY]])
async def test_who_may_read_a_document_should_get_its_sealed_metadata_in_clear_by_every_route(keys: list[str]) -> None:
    found = await shown(app(keys))

    assert found == [{"salary": 71_500, "team": "weir"}] * 7


@pytest.mark.parametrize("keys", [[], [OTHER]])
async def test_without_its_key_a_value_should_be_shown_sealed(keys: list[str]) -> None:
    found = await shown(app(keys))

    assert found == [{"salary": SEALED, "team": "weir"}] * 7


async def test_no_model_should_get_what_is_sealed() -> None:
    model = Listening()

    await shown(app([KEY], model))

    assert {hit.metadata["salary"] for hit in model.given} == {SEALED}
