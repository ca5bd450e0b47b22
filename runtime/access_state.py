"""What the entries of the topic `access` amount to. Before it: `directory.py` reads them. After it: every look-up.

Pure but for its memory. The answer depends on the last entry of each name alone, so that a process that read the whole
topic and one that came after compaction agree (a property test holds it). One thread takes entries, any thread asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from runtime.access import (
    ApiKey,
    KnowledgeBase,
    Principal,
    Role,
    Scope,
    both_roles,
    reader_names,
    strongest,
)
from runtime.access_entries import Grant, KeyEnd, KeyRevoked, Password, SecondFactor, User, UserBlocked
from schemas.records import AccessEntry

_NO_ROLES: Mapping[str, Role] = {}
_NO_BASES: Mapping[str, KnowledgeBase] = {}


class AccessState:
    """Keys, users, grants and knowledge bases as the entries so far say. What it hands out is never changed again."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._revoked: dict[str, KeyRevoked] = {}
        self._ends: dict[str, KeyEnd] = {}
        self._bases: dict[str, KnowledgeBase] = {}
        self._used: dict[str, KnowledgeBase] = {}
        self._users: dict[str, User] = {}
        self._passwords: dict[str, Password] = {}
        self._factors: dict[str, SecondFactor] = {}
        self._blocked: dict[str, UserBlocked] = {}
        self._grants: dict[str, Grant] = {}
        self._kinds: Mapping[str, tuple[dict[str, Any], Callable[[AccessEntry], Any]]] = {
            "key": (self._keys, ApiKey.from_entry),
            "key-revoked": (self._revoked, KeyRevoked.from_entry),
            "key-end": (self._ends, KeyEnd.from_entry),
            "base": (self._bases, KnowledgeBase.from_entry),
            "base-used": (self._used, KnowledgeBase.from_entry),
            "user": (self._users, User.from_entry),
            "password": (self._passwords, Password.from_entry),
            "second-factor": (self._factors, SecondFactor.from_entry),
            "user-blocked": (self._blocked, UserBlocked.from_entry),
            "grant": (self._grants, Grant.from_entry),
        }
        self._digests: dict[str, str] = {}
        # Each search asks for its tenant's: tenant -> name -> base. Replaced like the roles below.
        self._of_tenant: dict[str, Mapping[str, KnowledgeBase]] = {}
        # By tenant and who: knowledge base -> role. Replaced whole at each change, for another thread may be reading.
        self._roles: dict[tuple[str, str], Mapping[str, Role]] = {}

    def take(self, entry: AccessEntry) -> None:
        """An entry was read. A kind that this version does not know is passed over."""
        if entry.deleted and entry.kind != "key-revoked":  # that a key was revoked is never taken back
            self.forget(entry.kind, entry.id)
            return
        if entry.kind not in self._kinds:
            return
        held, parse = self._kinds[entry.kind]
        found, before = parse(entry), held.get(entry.id)
        # The new state first: at no moment is a key unknown that is valid before and after.
        held[entry.id] = found
        if isinstance(found, ApiKey):
            self._digests[found.digest] = found.id
            if before is not None and before.digest != found.digest:
                self._digests.pop(before.digest, None)
        elif isinstance(found, Grant):
            roles = self._roles.get((found.tenant, found.who), _NO_ROLES)
            self._roles[found.tenant, found.who] = {**roles, found.base: found.role}
        elif isinstance(found, KnowledgeBase):
            self._relist(found)

    def forget(self, kind: str, id: str) -> None:  # noqa: A002  # the record's own word
        """An entry was taken back."""
        gone = self._kinds[kind][0].pop(id, None) if kind in self._kinds and kind != "key-revoked" else None
        if isinstance(gone, ApiKey):
            self._digests.pop(gone.digest, None)
        elif isinstance(gone, Grant):
            roles = dict(self._roles.get((gone.tenant, gone.who), _NO_ROLES))
            roles.pop(gone.base, None)
            self._roles[gone.tenant, gone.who] = roles
        elif isinstance(gone, KnowledgeBase):
            self._relist(gone)

    def _relist(self, changed: KnowledgeBase) -> None:
        known = dict(self._of_tenant.get(changed.tenant, _NO_BASES))
        known.pop(changed.name, None)
        if (base := self.base(changed.tenant, changed.name)) is not None:
            known[changed.name] = base
        self._of_tenant[changed.tenant] = known

    def key_by_digest(self, key_digest: str) -> ApiKey | None:
        """The key as it counts: ended where it was revoked or rotated, and bounded by the user it acts for."""
        found = self.key(self._digests.get(key_digest, ""))
        return None if found is None else self.bounded(found)

    def key(self, key_id: str) -> ApiKey | None:
        """The key as it was made, but ended where it was revoked or rotated."""
        found = self._keys.get(key_id)
        if found is None:
            return None
        end = self._ends.get(key_id)
        if end is not None and (found.expires_ms is None or end.at_ms < found.expires_ms):
            found = replace(found, expires_ms=end.at_ms)
        return replace(found, active=False) if key_id in self._revoked else found

    def bounded(self, key: ApiKey) -> ApiKey:
        """The key with what the local user whom it acts for may do too; dead if the user is blocked."""
        if self.blocked(key.tenant, key.subject):
            return replace(key, active=False)
        user = self.user(key.tenant, key.subject)
        if user is None:
            return key
        roles = self.roles(key.tenant, reader_names(user.name, user.groups))
        allowed = scopes_of(roles)
        scopes = tuple(scope for scope in key.scopes if scope in allowed)
        # A key with the scope admin does what an admin may, whatever roles it names.
        own: Mapping[str, Role] = {"*": "admin"} if "admin" in key.scopes else key.roles
        groups = tuple(group for group in key.groups if group in user.groups)
        return replace(key, scopes=scopes, roles=both_roles(own, roles), groups=groups)

    def keys(self, tenant: str) -> list[ApiKey]:
        """The tenant's keys, by id, those that ended included."""
        ids = sorted(key.id for key in tuple(self._keys.values()) if key.tenant == tenant)
        return [key for name in ids if (key := self.key(name)) is not None]

    def base(self, tenant: str, name: str) -> KnowledgeBase | None:
        """A knowledge base as somebody wants it, else as its first document made it; None if there is none."""
        return self._bases.get(f"{tenant}/{name}") or self._used.get(f"{tenant}/{name}")

    def made_base(self, tenant: str, name: str) -> KnowledgeBase | None:
        """As base, but only one that somebody made, not its first document."""
        return self._bases.get(f"{tenant}/{name}")

    def bases(self, tenant: str) -> list[KnowledgeBase]:
        """The tenant's knowledge bases, by name."""
        return sorted(self._of_tenant.get(tenant, _NO_BASES).values(), key=lambda base: base.name)

    def user(self, tenant: str, name: str) -> User | None:
        """A user, blocked or not; None if there is none."""
        return self._users.get(f"{tenant}/{name}")

    def users(self, tenant: str) -> list[User]:
        """The tenant's users, by name."""
        return sorted((user for user in tuple(self._users.values()) if user.tenant == tenant), key=lambda u: u.name)

    def blocked(self, tenant: str, name: str) -> bool:
        """True if nobody of this name may come in."""
        return f"{tenant}/{name}" in self._blocked

    def password(self, tenant: str, name: str) -> Password | None:
        """The user's password, None if it has none."""
        return self._passwords.get(f"{tenant}/{name}")

    def second_factor(self, tenant: str, name: str) -> SecondFactor | None:
        """The user's second factor, None if it has none."""
        return self._factors.get(f"{tenant}/{name}")

    def roles(self, tenant: str, names: Iterable[str]) -> dict[str, Role]:
        """What is granted to any of these names: knowledge base (or `*`) -> the strongest role."""
        found: dict[str, Role] = {}
        for name in names:
            for base, role in self._roles.get((tenant, name), _NO_ROLES).items():
                found[base] = strongest((role, found.get(base))) or role
        return found

    def grants(self, tenant: str, base: str) -> list[Grant]:
        """Who has which role in the knowledge base (`*`: in all of them), by name."""
        found = [grant for grant in tuple(self._grants.values()) if (grant.tenant, grant.base) == (tenant, base)]
        return sorted(found, key=lambda grant: grant.who)

    def person(self, tenant: str, subject: str, groups: Iterable[str]) -> Principal:
        """Somebody of these names, with all that is granted to them."""
        known = frozenset(groups)
        roles = self.roles(tenant, reader_names(subject, known))
        return Principal(subject, tenant, scopes_of(roles), roles, known, via="session")


def scopes_of(roles: Mapping[str, Role]) -> frozenset[Scope]:
    """The scopes of a person: its roles decide base by base what it reads and writes; an admin of all is an admin."""
    return frozenset({"ingest", "query", "admin"} if roles.get("*") == "admin" else {"ingest", "query"})
