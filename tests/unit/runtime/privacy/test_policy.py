"""A knowledge base's policy: stored, read back, and refused where it says what cannot be done."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.access import KnowledgeBase
from runtime.privacy.policy import Policy, PolicyRefused
from schemas.records import AccessEntry


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(mask=("email", "phone"), region="DE"),
        Policy(sensitivity="restricted", retention_days=30),
        Policy(seal=("iban", "salary")),
    ],
)
def test_a_base_should_come_back_from_its_entry_with_its_policy(policy: Policy) -> None:
    base = KnowledgeBase("acme", "handbook", "nobody", policy)

    assert KnowledgeBase.from_entry(base.entry()) == base


def test_a_base_written_before_there_were_policies_should_have_the_one_that_does_nothing() -> None:
    entry = AccessEntry("base", "acme/handbook", '{"absent_access": "nobody"}')

    assert KnowledgeBase.from_entry(entry) == KnowledgeBase("acme", "handbook", "nobody", Policy())


def test_two_policies_that_do_the_same_should_be_equal() -> None:
    assert Policy.from_json({"mask": ["phone", "email", "phone"], "region": "DE"}) == Policy.from_json(
        {"mask": ["email", "phone"], "region": "DE"}
    )
    assert Policy.from_json({"seal": ["salary", "iban", "iban"]}) == Policy.from_json({"seal": ["iban", "salary"]})


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"mask": ["mail"]}, "mask"),
        ({"mask": "email"}, "mask"),
        ({"region": "Germany"}, "region"),
        ({"sensitivity": "high"}, "sensitivity"),
        ({"retention_days": 0}, "retention_days"),
        ({"retention_days": True}, "retention_days"),
        ({"masks": []}, "masks"),
        ({"seal": "salary"}, "seal"),
        ({"seal": [""]}, "seal"),
        ({"seal": ["sensitivity"]}, "seal"),
        ({"seal": ["filename"]}, "seal"),
        ({"seal": [f"key{number}" for number in range(33)]}, "seal"),
    ],
)
def test_a_policy_that_cannot_be_followed_should_be_refused_by_its_field(raw: dict[str, Any], field: str) -> None:
    with pytest.raises(PolicyRefused) as refused:
        Policy.from_json(raw)

    assert refused.value.field == field
    assert refused.value.fix
