"""What a knowledge base's policy makes of a change before it is written: tokens, labels, and what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from runtime.filetypes import Kind
from runtime.privacy.masking import Masker
from runtime.privacy.policy import Policy
from runtime.privacy.sealing import PREFIX, Seals
from schemas.codec import Codec
from schemas.lanes import Lane
from schemas.records import Block, DocumentChange, Event, MetadataValue, Operation, Origin, Receipt, Upload
from streams.core.identity import filterable_metadata
from streams.core.outcomes import Done, Outcome, Rejected, Retry
from streams.parsing.result import ParsedText
from streams.ports import Inbound, TemporaryFailure
from streams.steps.capture import CaptureStep
from streams.steps.parse import ParseStep
from streams.steps.protection import Protection
from tests.property.test_index_machine import Ticking, make_change
from tests.support.lookup import LocalLookup

KEY = "0123456789abcdef0123456789abcdef"
ANN = "ann.lee@example.com"
TOKEN = Masker(KEY, "t").token("email", ANN)
MASKS = Policy(mask=("email", "phone"), region="DE")
CODEC = Codec(LocalLookup())


@dataclass
class FakePolicies:
    """As they are when they are asked for; away: Kafka does not answer."""

    held: dict[tuple[str, str], Policy] = field(default_factory=dict)
    away: bool = False

    def now(self) -> Callable[[str, str], Policy]:
        """As Policies.now."""
        if self.away:
            raise TemporaryFailure("no answer from Kafka")
        held = dict(self.held)
        return lambda tenant, base: held.get((tenant, base), Policy())


def protected(change: DocumentChange, policy: Policy, key: str | None = KEY) -> DocumentChange:
    policies = FakePolicies({(change.tenant, change.knowledge_base): policy})
    return Protection(policies, key, Seals([KEY])).now()(change)


def test_tokens_should_stand_in_text_title_metadata_and_file_name() -> None:
    change = replace(
        make_change("a", 1, f"Ask {ANN}."),
        title=f"From {ANN}",
        metadata={"by": ANN, "cc": [ANN, "nobody"], "year": 2024, "phone": "030 1234567", "sent": True, "none": None},
        origin=Origin("upload", "uploads", f"{ANN} cv.pdf", "uploads", 0, 1),
    )

    found = protected(change, MASKS)

    phone = Masker(KEY, change.tenant).token("phone", "+49301234567")
    token = Masker(KEY, change.tenant).token("email", ANN)
    assert found.text == f"Ask {token}."
    assert found.title == f"From {token}"
    assert found.metadata == {
        "by": token, "cc": [token, "nobody"], "year": 2024, "phone": phone, "sent": True, "none": None,
    }  # fmt: skip
    assert found.origin.ref == f"{token} cv.pdf"
    assert ANN not in str(found)
    assert (
        replace(found, text=change.text, title=change.title, metadata=change.metadata, origin=change.origin) == change
    )


def test_blocks_should_stay_around_the_same_words() -> None:
    words = ["Ask", ANN, "or +49 30 1234567 today", "Bye"]
    text = "\n\n".join(words)
    starts = [text.index(word) for word in words]
    blocks = [Block("paragraph", start, start + len(word)) for start, word in zip(starts, words, strict=True)]

    found = protected(replace(make_change("a", 1, text), blocks=blocks), MASKS)

    assert found.text is not None
    assert found.blocks is not None
    shown = [found.text[block.start : block.end] for block in found.blocks]
    assert [shown[0], shown[3]] == ["Ask", "Bye"]
    assert shown[1].startswith("email_")
    assert shown[2].startswith("or phone_")
    assert shown[2].endswith(" today")


def test_a_card_given_as_a_number_should_become_a_token_and_a_year_stay_one() -> None:
    change = replace(make_change("a", 1, "text"), metadata={"card": 4111111111111111, "at": 1700000000000})

    found = protected(change, Policy(mask=("card",)))

    assert str(found.metadata["card"]).startswith("card_")
    assert found.metadata["at"] == 1700000000000


def test_a_knowledge_base_without_a_policy_should_change_nothing() -> None:
    change = make_change("a", 1, f"Ask {ANN}.")

    assert protected(change, Policy()) is change
    assert protected(change, Policy(), key=None) is change


def test_a_deletion_should_pass_as_it_is() -> None:
    change = make_change("a", 1, None, operation=Operation.DELETE)

    assert protected(change, Policy(mask=("email",), sensitivity="internal")) is change


@pytest.mark.parametrize(
    ("given", "label"),
    [({}, "internal"), ({"sensitivity": "Restricted "}, "restricted"), ({"sensitivity": None}, "internal")],
)
def test_a_document_should_have_the_label_it_came_with_or_its_knowledge_bases(
    given: dict[str, Any], label: str
) -> None:
    change = replace(make_change("a", 1, "text"), metadata=given)

    assert protected(change, Policy(sensitivity="internal")).metadata == {"sensitivity": label}


def test_a_label_should_mean_nothing_where_the_knowledge_base_does_not_use_labels() -> None:
    change = replace(make_change("a", 1, "text"), metadata={"sensitivity": "7 of 9"})

    assert protected(change, Policy()).metadata == {"sensitivity": "7 of 9"}


PAY: dict[str, MetadataValue] = {"salary": 71_500, "iban": "DE89370400440532013000", "team": "weir", "left": None}


def test_what_a_policy_names_should_be_sealed_and_the_rest_stay() -> None:
    change = replace(make_change("a", 1, "text"), metadata=PAY)

    found = protected(change, Policy(seal=("iban", "left", "salary", "unknown")))

    assert {name for name, value in found.metadata.items() if str(value).startswith(PREFIX)} == {"iban", "salary"}
    assert "71500" not in str(found)
    assert "DE89" not in str(found)
    assert Seals([KEY]).opened(change.key, found.metadata) == PAY
    assert replace(found, metadata=change.metadata, filterable=change.filterable) == change


@pytest.mark.parametrize(("declared", "left"), [(None, ["left", "team"]), (["salary", "team"], ["team"]), ([], [])])
def test_what_is_sealed_should_not_be_filterable_and_so_touch_no_chunk(
    declared: list[str] | None, left: list[str]
) -> None:
    change = replace(make_change("a", 1, "text"), metadata=PAY, filterable=declared)

    found = protected(change, Policy(seal=("iban", "salary")))

    assert found.filterable == left
    assert filterable_metadata(found) == {name: PAY[name] for name in left if PAY[name] is not None}


def test_the_same_change_should_become_the_same_record_again() -> None:
    change = replace(make_change("a", 1, "text"), metadata=PAY)

    assert protected(change, Policy(seal=("salary",))) == protected(change, Policy(seal=("salary",)))


def test_what_is_sealed_should_be_the_value_as_it_came_also_where_the_rest_is_masked() -> None:
    change = replace(make_change("a", 1, "text"), metadata={"by": ANN, "to": ANN})

    found = protected(change, Policy(mask=("email",), seal=("by",)))

    assert Seals([KEY]).opened(change.key, found.metadata) == {
        "by": ANN,
        "to": Masker(KEY, change.tenant).token("email", ANN),
    }


def test_a_value_that_looks_sealed_should_be_sealed_like_any_other() -> None:
    change = make_change("a", 1, "text")
    stolen = Seals([KEY]).sealed(change.key, "salary", 71_500)

    found = protected(replace(change, metadata={"salary": stolen}), Policy(seal=("salary",)))

    assert Seals([KEY]).opened(change.key, found.metadata) == {"salary": stolen}


@dataclass
class Log:
    """A ChangeLog that keeps what it is given."""

    written: list[DocumentChange] = field(default_factory=list)

    def changes(self, changes: Sequence[tuple[DocumentChange, Lane]]) -> None:
        """As ChangeLog."""
        self.written += [change for change, _ in changes]

    def receipts(self, receipts: Sequence[Receipt]) -> None:
        """As ChangeLog."""


def captured(
    event: Event, policies: FakePolicies, key: str | None = KEY, seal_keys: Sequence[str] = (KEY,)
) -> tuple[Outcome, Log]:
    log = Log()
    protection = Protection(policies, key, Seals(seal_keys))
    step = CaptureStep(CODEC, log, None, Ticking(), {}, dict, protection.now)  # type: ignore[arg-type]  # no row here
    record = Inbound("events", 0, 5, 1000, event.key.encode(), CODEC.encode("events", event))
    (outcome,) = step.handle_now([record])
    return outcome, log


def test_an_event_should_be_masked_before_it_is_written() -> None:
    outcome, log = captured(Event("t", "kb", "a", text=f"Ask {ANN}."), FakePolicies({("t", "kb"): MASKS}))

    assert outcome == Done("captured")
    assert [change.text for change in log.written] == [f"Ask {TOKEN}."]


def test_nothing_should_be_written_while_the_policies_cannot_be_asked_for() -> None:
    outcome, log = captured(Event("t", "kb", "a", text=f"Ask {ANN}."), FakePolicies(away=True))

    assert isinstance(outcome, Retry)
    assert log.written == []


def test_without_a_key_what_is_to_be_masked_should_wait_for_a_person() -> None:
    outcome, log = captured(Event("t", "kb", "a", text="text"), FakePolicies({("t", "kb"): MASKS}), key=None)

    assert isinstance(outcome, Retry)
    assert outcome.configuration
    assert "privacy.mask_key" in outcome.cause
    assert log.written == []


def test_without_a_key_what_is_to_be_sealed_should_wait_for_a_person() -> None:
    event = Event("t", "kb", "a", text="text", metadata={"salary": 71_500})

    outcome, log = captured(event, FakePolicies({("t", "kb"): Policy(seal=("salary",))}), seal_keys=())

    assert isinstance(outcome, Retry)
    assert outcome.configuration
    assert "privacy.seal_keys" in outcome.cause
    assert log.written == []


def test_a_label_that_nobody_knows_should_park_the_document() -> None:
    event = Event("t", "kb", "a", text="text", metadata={"sensitivity": "hihg"})

    outcome, log = captured(event, FakePolicies({("t", "kb"): Policy(sensitivity="public")}))

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "sensitivity_unknown"
    assert "hihg" not in outcome.detail
    assert log.written == []


class OnePage:
    """A parser that reads the same from any file."""

    async def parse(self, path: Path, kind: Kind, *, deadline_s: float) -> ParsedText:
        """As ParserPool.parse."""
        return ParsedText(f"Ask {ANN}.", [], None, {})

    def fetch_to(self, name: str, path: Path) -> None:
        """As BlobStore.fetch_to."""


def test_a_file_should_be_masked_before_it_is_written(tmp_path: Path) -> None:
    log, page = Log(), OnePage()
    protection = Protection(FakePolicies({("t", "kb"): MASKS}), KEY, Seals([KEY]))
    step = ParseStep(CODEC, page, page, log, Ticking(), tmp_path, 5.0, protection.now)  # type: ignore[arg-type]
    upload = Upload("u", "t", "kb", "a", f"{ANN} cv.txt", "txt", 1, "", "blob")
    record = Inbound("uploads", 0, 5, 1000, b"k", CODEC.encode("uploads", upload))

    (outcome,) = asyncio.run(step.handle([record]))

    assert outcome == Done("parsed")
    (change,) = log.written
    assert (change.text, change.title) == (f"Ask {TOKEN}.", f"{TOKEN} cv.txt")
    assert change.metadata["filename"] == f"{TOKEN} cv.txt"
    assert ANN not in str(change)
