"""What source systems send: a tenant and a source are nobody's to choose, and no envelope holds a partition up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.document_names import wrong_name
from schemas.records import DocumentChange, Event, Origin, document_key, split_document_key
from schemas.source import SourceError, parse_source
from streams.core.changes import NotAChange, read_envelope, row_change, unavailable_columns
from streams.core.outcomes import Done, Rejected, Retry
from streams.ports import Inbound
from streams.steps.capture import CapturedSource, CaptureStep
from tests.support.lookup import LocalLookup
from tests.support.unprotected import unprotected
from tests.unit.connectors.upload_api.world import EDITOR, upload_world
from tests.unit.streams.test_failures import EVENT, Appended, Noon, NoRows, record_of

CODEC = Codec(LocalLookup())
SHOP = parse_source(
    "name: shop\nknowledge_base: kb\ntable: public.page\nkey: [id]\ntext: body\nmetadata: [year]\naccess: readers\n"
)
ORIGIN = Origin("cdc", "shop", "1", SHOP.topic, 0, 1)
CLOUD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "//crm",
    "type": "changed",
    "data": {"id": "1", "text": "Herons fish.", "knowledge_base": "shop"},
}


def captured(*records: Inbound, tenant: str = "t") -> tuple[list[Any], list[DocumentChange]]:
    log, sources = Appended(), {SHOP.topic: CapturedSource(tenant, SHOP)}
    outcomes = CaptureStep(log.codec, log, NoRows(), Noon(), sources, lambda: sources, unprotected).handle_now(records)
    return outcomes, log.appended


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"data": {**CLOUD["data"], "tenant": "other"}}, "data.tenant"),
        ({"data": {**CLOUD["data"], "source": "shop"}}, "data.source"),
        ({"source": "api"}, "source"),
        ({"source": "uploads"}, "source"),
        ({"source": "x" * 201}, "source"),
        ({"source": "crm\x1b[31m"}, "source"),
        ({"data": {**CLOUD["data"], "id": "source:shop"}}, "data.id"),
    ],
)
async def test_a_cloud_event_may_not_name_a_tenant_nor_pass_for_another_source(
    tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    async with upload_world(tmp_path) as world:
        answered = await world.client.post(
            "/v1/events",
            content=json.dumps({**CLOUD, **change}),
            headers={"X-API-Key": EDITOR, "Content-Type": "application/cloudevents+json"},
        )

        assert answered.status_code == 422
        assert field in {error["field"] for error in answered.json()["errors"]}
        assert world.log.records == []


async def test_an_extension_attribute_called_tenant_changes_nothing(tmp_path: Path) -> None:
    async with upload_world(tmp_path) as world:
        answered = await world.client.post(
            "/v1/events",
            content=json.dumps({**CLOUD, "tenant": "other", "tenantid": "other"}),
            headers={"X-API-Key": EDITOR, "Content-Type": "application/cloudevents+json"},
        )

        assert answered.status_code == 202
        assert [event.tenant for event in world.log.events] == ["acme"]


async def test_no_way_in_takes_the_id_under_which_the_end_of_a_source_lies(tmp_path: Path) -> None:
    """Compaction would keep the document and forget the end: a rebuild would bring ended rows back."""
    body = {"text": "x", "knowledge_base": "shop"}
    key = {"X-API-Key": EDITOR}
    async with upload_world(tmp_path) as world:
        client = world.client
        answers = [
            await client.put("/v1/documents/source:shop", json=body, headers=key),
            await client.delete("/v1/documents/source:shop?knowledge_base=shop", headers=key),
            await client.post("/v1/documents", json={"documents": [{"id": "source:shop", **body}]}, headers=key),
            await world.upload(document_id="source:shop", key=EDITOR),
            await world.upload(name="source:shop.txt", key=EDITOR),
        ]

        assert [answered.status_code for answered in answers] == [422] * 5
        assert world.log.records == []
    with pytest.raises(SourceError):
        parse_source("name: source\nknowledge_base: kb\ntable: public.page\ntext: body\n")


@pytest.mark.parametrize(
    "event",
    [
        replace(EVENT, tenant="acme/handbook"),
        replace(EVENT, tenant=""),
        replace(EVENT, tenant="\x00barrier"),
        replace(EVENT, knowledge_base="kb/other"),
        replace(EVENT, knowledge_base=""),
        replace(EVENT, id=""),
        replace(EVENT, id="a\nb"),
        replace(EVENT, id="source:shop"),
    ],
    ids=lambda event: repr(event.key),
)
def test_an_event_whose_names_are_none_is_a_dead_letter_and_its_neighbours_are_taken(event: Event) -> None:
    outcomes, taken = captured(record_of(event), record_of(EVENT, 6))

    assert isinstance(outcomes[0], Rejected)
    assert outcomes[0].reason == "not_a_change"
    assert outcomes[1] == Done("captured")
    assert [change.document_id for change in taken] == ["heron"]


def test_an_event_under_another_documents_key_is_a_dead_letter() -> None:
    alien = replace(record_of(EVENT), key=b"other/kb/heron")

    outcomes, taken = captured(alien)

    assert isinstance(outcomes[0], Rejected)
    assert taken == []


def test_an_event_that_calls_itself_a_tables_source_is_a_dead_letter_and_whoever_waits_is_told() -> None:
    borrowed = replace(EVENT, source="shop")

    outcomes, taken = captured(record_of(borrowed), record_of(replace(borrowed, tenant="another"), 6))

    assert isinstance(outcomes[0], Rejected)
    assert outcomes[0].reason == "borrowed_source"
    assert outcomes[1] == Done("captured"), "another tenant's table is none of its business"
    assert [change.tenant for change in taken] == ["another"]


@given(st.text(), st.text(), st.text())
def test_names_that_are_taken_name_one_document_only(tenant: str, base: str, document: str) -> None:
    if wrong_name(tenant, base, document) is None:
        assert split_document_key(document_key(tenant, base, document)) == (tenant, base, document)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5)
VALUE = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
ROW = st.dictionaries(st.sampled_from(["id", "body", "year", "readers", "other"]), VALUE)
WHOLE: dict[str, Any] = {"id": 1, "body": "Herons fish.", "year": 2024, "readers": ["ann"]}
ENVELOPE = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["c", "u", "d", "r", "t", "m", "?"]),
        "source": st.fixed_dictionaries({"lsn": st.just(7), "ts_ms": st.just(8)}, optional={"snapshot": VALUE}),
        "before": st.none() | st.just(WHOLE) | ROW,
        "after": st.none() | st.just(WHOLE) | ROW,
    }
)
"""Whole but for its rows; one part of it is then replaced by anything."""


@settings(max_examples=500)
@given(
    st.just({"id": 1}) | ROW | VALUE,
    ENVELOPE,
    st.sampled_from(["nothing", "op", "source", "before", "after"]),
    VALUE,
    st.booleans(),
)
def test_any_envelope_is_a_change_or_is_refused_at_once(
    key: Any, envelope: dict[str, Any], broken: str, by: Any, left_out: bool
) -> None:
    """Another error would be tried again and again, and the partition would wait."""
    if broken in envelope:
        envelope = {name: by if name == broken else part for name, part in envelope.items()}
        if left_out:
            del envelope[broken]
    try:
        row = read_envelope(SHOP, key, envelope, epoch=1)
        unavailable_columns(SHOP, row)
        change = row_change("t", SHOP, row, ORIGIN, fetched=None)
    except NotAChange:
        return
    assert (change.tenant, change.knowledge_base) == ("t", "kb")


@pytest.mark.parametrize("epoch", [b"x", b"-1", b"9" * 5000, "١".encode(), b"1e3"])
def test_an_epoch_that_is_no_number_is_refused_at_once(epoch: bytes) -> None:
    row = Inbound(SHOP.topic, 0, 0, 0, None, CODEC.encode("events", EVENT), (("thalweg.epoch", epoch),))

    (outcome,), _ = captured(row)

    assert isinstance(outcome, Rejected)
    assert not isinstance(outcome, Retry)
