"""A question, and the texts in a filter, masked as the documents were: an address in them finds its token.

Before it: `service.py` (which knowledge bases are in reach). After it: the embedding model, the search and the model
that answers see the token only, unless a knowledge base in reach keeps addresses as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from query_api.retrieval.filters import AllOf, AnyOf, Comparison, Filter
from runtime.access import KnowledgeBase
from runtime.privacy.detection import find
from runtime.privacy.masking import Masker
from runtime.privacy.policy import Policy
from runtime.web.problems import Problem

_NEVER_MASKED = ("source", "document")
_LONGEST_VALUE = 320
"""Characters of a filter's value that are looked through: an address has no more (RFC 5321)."""

_SEVERAL = {"eq": "in", "ne": "nin", "in": "in", "nin": "nin"}


class QuestionMasking:
    """One for a process. mask_key: the secret `privacy.mask_key`, None where it is not set."""

    def __init__(self, mask_key: str | None) -> None:
        self._mask_key = mask_key
        self._masker = lru_cache(maxsize=1000)(self._masker_of)

    def among(self, tenant: str, bases: Iterable[KnowledgeBase]) -> AsStored:
        """How texts of a question are spelt in these knowledge bases. Raises Problem if the key is missing."""
        # One of each: what else a policy says does not matter here, and dict keeps the order.
        policies = list(dict.fromkeys(Policy(mask=base.policy.mask, region=base.policy.region) for base in bases))
        if not any(policy.mask for policy in policies):
            return AsStored(None, ())
        return AsStored(self._masker(tenant), policies)

    def _masker_of(self, tenant: str) -> Masker:
        if self._mask_key is None:
            raise Problem(
                "unavailable", "A knowledge base masks personal data, and privacy.mask_key is not set for this API."
            )
        return Masker(self._mask_key, tenant)


@dataclass(frozen=True)
class AsStored:
    """masker None: nothing is masked in the knowledge bases in reach."""

    masker: Masker | None
    policies: Sequence[Policy]

    @property
    def masks(self) -> bool:
        """False: question and filter stay as they are."""
        return self.masker is not None

    def asked(self, text: str, given: Filter | None) -> tuple[str, Filter | None]:
        """Question and filter, both as the documents are spelt."""
        return self.question(text), self.filter(given)

    def question(self, text: str) -> str:
        """The question as the documents are spelt.

        Where the knowledge bases differ it holds what the first of them has, and behind it the others' tokens.
        """
        if self.masker is None:
            return text
        plain = any(not policy.mask for policy in self.policies)
        first = Policy() if plain else self.policies[0]
        whole = self.masker.masked(text, first.mask, first.region).text
        for policy in self.policies:
            for match in find(text, policy.mask, policy.region):
                token = self.masker.token(match.kind, match.value)
                if token not in whole:
                    whole = f"{whole} {token}"
        return whole

    def filter(self, given: Filter | None) -> Filter | None:
        """The filter, with every spelling of a text that it compares with."""
        match given:
            case AllOf(parts):
                return AllOf(tuple(found for part in parts if (found := self.filter(part)) is not None))
            case AnyOf(parts):
                return AnyOf(tuple(found for part in parts if (found := self.filter(part)) is not None))
            case Comparison() if self.masker is not None:
                return self._comparison(given, self.masker)
            case _:
                return given

    def _comparison(self, given: Comparison, masker: Masker) -> Comparison:
        if given.property in _NEVER_MASKED or given.operator not in _SEVERAL or not given.data_type.startswith("text"):
            return given
        values = given.value if isinstance(given.value, tuple) else (given.value,)
        spelt = dict.fromkeys(values)
        for value in values:
            for policy in self.policies if len(str(value)) <= _LONGEST_VALUE else ():
                spelt[masker.masked(str(value), policy.mask, policy.region).text] = None
        if len(spelt) == len(values):
            return given
        return replace(given, operator=_SEVERAL[given.operator], value=tuple(spelt))  # type: ignore[arg-type]  # listed
