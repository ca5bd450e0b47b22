"""Sealed metadata: what a sealed value looks like, and what is told of one that does not open."""

from __future__ import annotations

import string

import pytest
import structlog
from pydantic import ValidationError

from runtime.privacy.sealing import Seals
from runtime.settings import Settings
from runtime.settings_privacy import Privacy

KEY, OTHER = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
DOCUMENT = "acme/staff/ann"
ALPHABET = string.ascii_letters + string.digits + "-_"


def test_a_sealed_value_should_be_what_it_was_in_every_release() -> None:
    # A change here leaves everybody with values that open no more: it needs another prefix, and both to be read.
    assert Seals([KEY]).sealed(DOCUMENT, "salary", 71_500) == (
        "sealed:856e9b43:eTc5P9tcQXWubmIpe_5HwaISxg-hgZCUekw1A-xDkjhxxt0TCys1t9xVLnSh_uW-"
    )


def test_without_a_key_nothing_should_be_sealed() -> None:
    assert not Seals().can_seal
    with pytest.raises(ValueError, match="no key"):
        Seals().sealed(DOCUMENT, "salary", 1)


@pytest.mark.parametrize("length", [10, 40, 70])
def test_other_spellings_of_the_same_bytes_should_not_open(length: int) -> None:
    sealed = Seals([KEY]).sealed(DOCUMENT, "note", "x" * length)
    last = sealed[-1]
    others = [
        f"{sealed[:-1]}.{last}",
        f"{sealed}=",
        f"{sealed}\n",
        *(sealed[:-1] + one for one in ALPHABET.replace(last, "")),
    ]

    for other in others:
        assert Seals([KEY]).opened(DOCUMENT, {"note": other}) == {"note": other}
    assert Seals([KEY]).opened(DOCUMENT, {"note": sealed}) == {"note": "x" * length}


def test_a_value_that_stays_sealed_should_be_told_once_and_without_the_value() -> None:
    theirs, seals = Seals([OTHER]).sealed(DOCUMENT, "salary", 71_500), Seals([KEY])
    ours = seals.sealed(DOCUMENT, "salary", 71_500)

    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            seals.opened(DOCUMENT, {"salary": theirs, "bonus": ours, "note": "sealed:whatever:somebody wrote"})

    assert [log["event"] for log in logs] == ["sealed_value_not_opened"] * 2
    assert {log["sealed_with"] for log in logs} == {"another", ours.split(":")[1]}
    assert theirs not in str(logs)
    assert "whatever" not in str(logs)


def test_the_setting_should_hold_several_keys_in_their_order() -> None:
    assert Privacy(seal_keys=f"{OTHER}\n{KEY}\n").sealing == (OTHER, KEY)  # type: ignore[arg-type]  # as it is read
    assert Privacy().sealing == ()


@pytest.mark.parametrize(
    "given", ["", "  ", "short", f"{KEY} short", f"{KEY} {KEY}", " ".join(f"{n:032}" for n in range(11))]
)
def test_keys_that_cannot_be_used_should_be_refused_and_not_told(given: str) -> None:
    with pytest.raises(ValidationError, match="seal_keys") as refused:
        Settings.model_validate({"home": "/tmp/t", "privacy": {"seal_keys": given}})  # never made

    assert not given.strip() or given.rsplit(maxsplit=1)[-1] not in str(refused.value.errors(include_input=False))
