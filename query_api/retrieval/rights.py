"""What a caller may read: knowledge bases, and documents' access lists. Pure.

Before it: the principal and the directory's knowledge bases. After it: every search, and `visibility.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.access import KnowledgeBase, Principal
from schemas.index.manifest import Manifest
from schemas.records import document_key, split_document_key


class UnknownBases(Exception):
    """The caller named knowledge bases that do not exist, or that it may not read: for it that is the same."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(", ".join(names))
        self.names = tuple(names)


@dataclass(frozen=True)
class Rights:
    """The reach of one request.

    bases: each knowledge base in reach -> whether its documents without an access list are in reach too. readers: the
    names under which access lists admit the caller; None: it sees every document (an admin).
    """

    tenant: str
    bases: Mapping[str, bool]
    readers: frozenset[str] | None

    def admits(self, manifest: Manifest) -> bool:
        """True if the caller may read this document."""
        tenant, base, _ = split_document_key(manifest.document)
        if tenant != self.tenant or base not in self.bases:
            return False
        if self.readers is None:
            return True
        if manifest.access is None:
            return self.bases[base]
        return not self.readers.isdisjoint(manifest.access)

    def documents(self, document_id: str) -> list[str]:
        """The keys a document of this id can have."""
        return [document_key(self.tenant, base, document_id) for base in sorted(self.bases)]


def rights_of(caller: Principal, bases: Sequence[KnowledgeBase], wanted: Sequence[str] | None) -> Rights:
    """The reach of a request that names these knowledge bases (None: all it may read). Raises UnknownBases."""
    readable = {base.name: base for base in bases if caller.role_in(base.name) is not None}
    if wanted is not None:
        if unknown := [name for name in dict.fromkeys(wanted) if name not in readable]:
            raise UnknownBases(unknown)
        readable = {name: readable[name] for name in wanted}
    return Rights(
        tenant=caller.tenant,
        bases={name: base.absent_access == "everyone" for name, base in readable.items()},
        readers=None if caller.admin else caller.readers,
    )
