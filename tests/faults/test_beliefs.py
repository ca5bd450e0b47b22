"""The reader of the fault matrix sees each kind of wrong answer, and none in right ones."""

from __future__ import annotations

from schemas.records import Receipt, ReceiptStage
from tests.faults.beliefs import Beliefs


def receipt(version: str, stage: ReceiptStage = ReceiptStage.INDEXED, base: str = "kb") -> Receipt:
    return Receipt("t", base, "d", stage, "events/0@1", version, "api", source_ms=1, receipt_ms=2)


OLD, NEW = "An old text of two sentences. It is short.", "A new text. It is short."


def hit(version: str, document: str = "d", text: str | None = None, start: int = 0) -> dict[str, object]:
    return {"document_id": document, "version": version, "text": text, "start": start, "end": start + len(text or "")}


def texts(document: str) -> list[str]:
    return [OLD, NEW] if document == "d" else []


def told(*receipts: Receipt) -> Beliefs:
    made = Beliefs("kb", texts)
    for each in receipts:
        made.receipt(each)
    return made


def test_newer_versions_one_after_the_other_are_right() -> None:
    beliefs = told(receipt("v1"))

    beliefs.hits([hit("v1"), hit("v1"), hit("v0", "other")], beliefs.floor())
    beliefs.hits([hit("v2"), hit("v2")], beliefs.floor())
    beliefs.shown("d", "v2", beliefs.floor())

    assert beliefs.wrong == []


def test_two_versions_in_one_answer_are_seen() -> None:
    beliefs = told()

    beliefs.hits([hit("v1"), hit("v2")], beliefs.floor())

    assert beliefs.wrong == ["d: one answer shows versions ['v1', 'v2']"]


def test_a_version_that_goes_back_is_seen() -> None:
    beliefs = told()

    beliefs.hits([hit("v2")], beliefs.floor())
    beliefs.hits([hit("v1")], beliefs.floor())

    assert beliefs.wrong == ["d: v1 shown after v2: it went back"]


def test_a_version_older_than_a_receipt_before_the_question_is_seen() -> None:
    beliefs = told(receipt("v2"), receipt("v1"), receipt("v3", ReceiptStage.SUPERSEDED))

    beliefs.shown("d", "v1", beliefs.floor())

    assert beliefs.wrong == ["d: v1 shown, although v2 had its receipt before the question"]


def test_a_deleted_document_is_seen_and_one_that_came_again_is_right() -> None:
    beliefs = told(receipt("v3", ReceiptStage.DELETED), receipt("v9", ReceiptStage.DELETED, base="another"))

    beliefs.shown("d", "v4", beliefs.floor())
    assert beliefs.wrong == []
    beliefs.shown("d", "v3", beliefs.floor())

    assert "its deletion v3 had its receipt" in beliefs.wrong[0]


def test_a_receipt_after_the_question_promises_nothing_for_it() -> None:
    beliefs = told(receipt("v1"))
    before = beliefs.floor()
    beliefs.receipt(receipt("v2", ReceiptStage.DELETED))

    beliefs.shown("d", "v1", before)

    assert beliefs.wrong == []


def test_chunks_of_two_texts_in_one_answer_are_seen() -> None:
    beliefs = told()
    begin = OLD.index("It is")

    beliefs.hits([hit("v1", text=OLD[:29]), hit("v1", text=OLD[begin:], start=begin)], beliefs.floor())
    beliefs.hits([hit("v1", text=NEW), hit("v7", "unknown", text="Anything.")], beliefs.floor())
    assert beliefs.wrong == []
    beliefs.hits([hit("v2", text=NEW[:11]), hit("v2", text=OLD[begin:], start=begin)], beliefs.floor())

    assert beliefs.wrong == ["d: no version of it has all that one answer shows of ['v2']"]
