"""What the policy of its knowledge base makes of a change, before anything of it is written to `documents`.

Before this: capture and parse have made the change. After this: `documents`, whose log never holds what was masked.
A label says how far a document may go: `restricted.py` keeps to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

from runtime.privacy.masking import Masked, Masker
from runtime.privacy.policy import LABEL, SENSITIVITIES, Policy
from runtime.privacy.sealing import Seals
from schemas.records import Block, DocumentChange, MetadataValue, Operation
from streams.ports import Misconfigured, PermanentFailure

Protect = Callable[[DocumentChange], DocumentChange]
"""Takes a change as its source gave it. Raises PermanentFailure, and Misconfigured, where the policy cannot be kept."""


class Policies(Protocol):
    """The policies of all knowledge bases."""

    def now(self) -> Callable[[str, str], Policy]:
        """The policy of a tenant's knowledge base, as it is at the moment of this call. Raises TemporaryFailure."""
        ...


class Protection:
    """One for a process. mask_key: the secret that tokens are made with; needed where a policy masks. seals: likewise
    where one seals.
    """

    def __init__(self, policies: Policies, mask_key: str | None, seals: Seals) -> None:
        self._policies = policies
        self._mask_key = mask_key
        self._seals = seals
        self._masker = lru_cache(maxsize=1000)(self._masker_of)

    def now(self) -> Protect:
        """The policies of this moment: asked once for a batch, they hold for all of it. Raises TemporaryFailure."""
        policy_of = self._policies.now()

        def protect(change: DocumentChange) -> DocumentChange:
            return self._protected(change, policy_of(change.tenant, change.knowledge_base))

        return protect

    def _protected(self, change: DocumentChange, policy: Policy) -> DocumentChange:
        if change.operation is not Operation.UPSERT:
            return change  # it carries nothing but names
        if policy.sensitivity is not None:
            change = replace(change, metadata=_labelled(change.metadata, policy))
        given = change.metadata
        if policy.mask:
            change = masked(change, policy, self._masker(change.tenant))
        # What is sealed is the value as it came: whoever may read it shall have all of it.
        return sealed(change, given, policy, self._seals) if policy.seal else change

    def _masker_of(self, tenant: str) -> Masker:
        if self._mask_key is None:
            raise Misconfigured("a knowledge base masks personal data: set privacy.mask_key for capture and parse")
        return Masker(self._mask_key, tenant)


def masked(change: DocumentChange, policy: Policy, masker: Masker) -> DocumentChange:
    """The change with tokens in text, title, metadata and file name. Its id stays: by it the document is found."""

    def of(text: str) -> Masked:
        return masker.masked(text, policy.mask, policy.region)

    text = None if change.text is None else of(change.text)
    origin = change.origin
    if origin.kind == "upload":
        origin = replace(origin, ref=of(origin.ref).text)  # the file's name; elsewhere the document's own key
    return replace(
        change,
        text=None if text is None else text.text,
        blocks=None if change.blocks is None or text is None else _moved(change.blocks, text),
        title=None if change.title is None else of(change.title).text,
        metadata={name: masker.value(value, policy) for name, value in change.metadata.items()},
        origin=origin,
    )


def sealed(change: DocumentChange, given: Mapping[str, MetadataValue], policy: Policy, seals: Seals) -> DocumentChange:
    """The change with ciphertexts of the given values under the policy's keys, which are not filterable any more.

    A value that looks like a ciphertext is sealed, too: what a writer sends is never taken for one of ours. Raises
    Misconfigured without a key.
    """
    if not seals.can_seal:
        raise Misconfigured("a knowledge base seals metadata: set privacy.seal_keys for capture and parse")
    closed = {
        name: seals.sealed(change.key, name, value)
        for name, value in given.items()
        if name in policy.seal and value is not None  # nothing is no secret, and stays nothing
    }
    names = sorted(change.metadata) if change.filterable is None else change.filterable
    return replace(
        change, metadata={**change.metadata, **closed}, filterable=[name for name in names if name not in policy.seal]
    )


def _moved(blocks: list[Block], text: Masked) -> list[Block]:
    moved = [replace(block, start=text.moved(block.start), end=text.moved(block.end)) for block in blocks]
    return [block for block in moved if block.start < block.end]


def _labelled(metadata: Mapping[str, MetadataValue], policy: Policy) -> dict[str, MetadataValue]:
    given = metadata.get(LABEL)
    label = policy.sensitivity if given is None else str(given).strip().lower()
    if label not in SENSITIVITIES:
        # A slip of the pen must not open what was to stay closed.
        raise PermanentFailure("sensitivity_unknown", f"metadata.{LABEL} is none of {', '.join(SENSITIVITIES)}")
    return {**metadata, LABEL: label}
