import json

import pytest

from connectors.publish import Following, LinesRefused, read_lines
from schemas.records import Event, Receipt, ReceiptStage


def read(*lines: str) -> list[Event]:
    return read_lines(lines, tenant="acme", knowledge_base="shop", source="crm")


def test_a_line_becomes_an_event_of_the_callers_tenant() -> None:
    line = {"id": "1", "text": "hello", "title": "T", "metadata": {"n": 1, "ok": True, "l": ["a"]}, "access": ["bob"]}
    (event,) = read(json.dumps(line), "  ")
    assert event == Event(
        "acme", "shop", "1", False, "hello", title="T", metadata=line["metadata"], access=["bob"], source="crm"
    )  # fmt: skip
    assert isinstance(event.metadata["ok"], bool)


def test_a_line_that_names_its_knowledge_base_keeps_it() -> None:
    (event,) = read('{"id": "1", "text": "x", "knowledge_base": "other"}')
    assert event.knowledge_base == "other"


def test_a_deletion_carries_nothing_but_names() -> None:
    (event,) = read('{"id": "1", "delete": true, "text": "secret", "title": "t"}')
    assert event == Event("acme", "shop", "1", delete=True, source="crm")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: not JSON at character 2"),
        ("[]", "line 2:"),
        ('{"text": "x"}', "line 2: id is missing: add it"),
        ('{"id": "1"}', "line 2: document text is missing"),
        ('{"id": "", "text": "x"}', "line 2: id"),
        ('{"id": "1", "text": "x", "vector": [1]}', "line 2: vector is not a known field"),
        ('{"id": "1", "text": "x", "tenant": "evil"}', "line 2: tenant is not a known field"),
        ('{"id": "1", "text": "x", "metadata": {"n": 1e999}}', "not a finite number"),
        ('{"id": "1", "text": "x", "metadata": {"n": 99999999999999999999}}', "beyond 64 bits"),
        ('{"id": "1", "text": "x", "metadata": {"a b": 1}}', "'a b' is not"),
        ('{"id": "1", "text": "\\ud800"}', "line 2: text"),
        ('{"id": "a\\nb", "text": "x"}', "control characters"),
        ('{"id": "1", "text": "x", "knowledge_base": "a/b"}', "line 2: knowledge_base"),
        ('{"id": "1", "text": "x", "access": ["a,b"]}', "line 2: access"),
    ],
)
def test_a_wrong_line_is_named_with_its_field(line: str, said: str) -> None:
    with pytest.raises(LinesRefused) as refused:
        read('{"id": "0", "text": "fine"}', line)
    assert said in str(refused.value)


def test_many_wrong_lines_are_told_up_to_a_limit() -> None:
    with pytest.raises(LinesRefused) as refused:
        read(*["{"] * 100)
    assert len(refused.value.lines) == 20


def receipt(accepted: str, stage: ReceiptStage, reason: str | None = None) -> Receipt:
    return Receipt("acme", "shop", "d", stage, accepted, "v", "crm", reason=reason)


def test_following_ends_when_every_position_has_ended() -> None:
    following = Following()
    following.take(receipt("events/0@1", ReceiptStage.CHUNKED))
    assert following.wait(["events/0@1"], 0, lambda _: None) == ["events/0@1"]
    following.take(receipt("events/0@1", ReceiptStage.INDEXED))
    following.take(receipt("events/0@2", ReceiptStage.FAILED, "no model"))
    following.take(receipt("events/0@2", ReceiptStage.INDEXED))
    told: list[int] = []
    assert following.wait(["events/0@1", "events/0@2"], 5, told.append) == []
    assert told == [2]
    assert following.failures(["events/0@1", "events/0@2"]) == {"events/0@2": "no model"}
