"""What a knowledge base wants done with personal data and secrets. Pure.

A policy holds for what is captured after it was set. What was indexed before stays as it was until it is sent again.
Before this: `thalweg access bases`. After this: `../access.py` keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import phonenumbers

Kind = Literal["email", "phone", "card", "iban", "national_id"]
"""What can be masked: detection.py says what each one is."""

Sensitivity = Literal["public", "internal", "restricted"]
"""How far a document may go: `restricted` is never sent to a model that is not ours."""

KINDS: tuple[Kind, ...] = get_args(Kind)
SENSITIVITIES: tuple[Sensitivity, ...] = get_args(Sensitivity)
LABEL = "sensitivity"
"""The metadata field that holds a document's label."""

RESTRICTED: Sensitivity = "restricted"
LONGEST_RETENTION_DAYS = 36_500
MOST_SEALED = 32
"""Metadata keys that a policy can name for sealing."""

LONGEST_NAME = 200
NEVER_SEALED = {
    LABEL: "how far a document may go is decided by it",
    "filename": "a file's name is told of the document's origin, too, and may be its id",
}
"""Metadata keys that cannot be sealed, and why."""


class PolicyRefused(ValueError):
    """A policy is not valid; field, what is wrong with it, how to mend it."""

    def __init__(self, field: str, message: str, fix: str) -> None:
        super().__init__(f"{field} {message}: {fix}")
        self.field, self.message, self.fix = field, message, fix


@dataclass(frozen=True)
class Policy:
    """The default does nothing.

    mask: kinds that are masked in text, title and metadata. region: the country (ISO 3166, two letters) whose phone
    numbers are written without a country code; empty: only those with `+` are found. sensitivity: the label of a
    document without one; None: labels are not in use here. retention_days: a document goes so long after its last
    change; None: it stays. seal: metadata keys whose values are kept encrypted, whole and not masked; nobody can filter
    on them.
    """

    mask: tuple[Kind, ...] = ()
    region: str = ""
    sensitivity: Sensitivity | None = None
    retention_days: int | None = None
    seal: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the topic `access` holds it: only what differs from the default."""
        default = vars(Policy())
        return {name: value for name, value in vars(self).items() if value != default[name]}

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Policy:
        """Back from `to_json`; also what a person wrote. Raises PolicyRefused."""
        unknown = sorted(set(raw) - set(vars(Policy())))
        if unknown:
            raise PolicyRefused(unknown[0], "is no part of a policy", f"use {', '.join(vars(Policy()))}")
        days = raw.get("retention_days")
        if days is not None and (type(days) is not int or not 1 <= days <= LONGEST_RETENTION_DAYS):
            raise PolicyRefused("retention_days", f"is {days!r}", f"give 1 to {LONGEST_RETENTION_DAYS} days")
        region = raw.get("region", "")
        if region and region not in phonenumbers.SUPPORTED_REGIONS:
            raise PolicyRefused(
                "region", f"is {region!r}", "give a country's two capital letters, DE or US for example"
            )
        sensitivity = raw.get("sensitivity")
        if sensitivity is not None and sensitivity not in SENSITIVITIES:
            raise PolicyRefused("sensitivity", f"is {sensitivity!r}", f"use one of {', '.join(SENSITIVITIES)}")
        kinds = _names(raw, "mask")
        for kind in kinds:
            if kind not in KINDS:
                raise PolicyRefused("mask", f"names {kind!r}", f"use some of {', '.join(KINDS)}")
        # In one order, so that two policies that do the same are equal.
        return Policy(tuple(k for k in KINDS if k in kinds), region, sensitivity, days, _sealed(raw))


def _sealed(raw: Mapping[str, Any]) -> tuple[str, ...]:
    names = _names(raw, "seal")
    if len(set(names)) > MOST_SEALED:
        raise PolicyRefused("seal", f"names more than {MOST_SEALED} metadata keys", "name fewer")
    for name in names:
        if not 0 < len(name) <= LONGEST_NAME:
            raise PolicyRefused("seal", "names no metadata key", f"give names of 1 to {LONGEST_NAME} characters")
        if name in NEVER_SEALED:
            raise PolicyRefused("seal", f"names {name!r}", f"leave it out: {NEVER_SEALED[name]}")
    return tuple(sorted(set(names)))


def _names(raw: Mapping[str, Any], field: str) -> Sequence[str]:
    given = raw.get(field, ())
    if isinstance(given, str) or not isinstance(given, Sequence) or not all(isinstance(item, str) for item in given):
        raise PolicyRefused(field, "is no list of names", "give a list")
    return given
